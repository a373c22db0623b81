"""The sliding minute: how many calls are within it, and when the next one is."""

import random

import pytest

from xpo_ray.api.rates import MOST_CALLERS, WINDOW_S, Rates, Window


class Seconds:
    """A clock that is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


def hit(rates: Rates, most: int, who: str = "a") -> tuple[int, float]:
    return rates._hit(("key", who), most)


def test_calls_are_counted_down_and_the_one_above_the_limit_is_refused(seconds: Seconds) -> None:
    rates = Rates(seconds)
    assert [hit(rates, 3)[0] for _ in range(5)] == [2, 1, 0, -1, -1]
    assert hit(rates, 3, "b")[0] == 2, "another caller"


@pytest.mark.parametrize(("most", "calls_at"), [(3, [0, 0, 0]), (4, [0, 10, 20, 59]), (20, [3 * n for n in range(20)])])
def test_after_the_wait_that_a_refusal_names_a_call_is_answered_and_no_earlier(
    seconds: Seconds, most: int, calls_at: list[float]
) -> None:
    rates, began = Rates(seconds), seconds.now
    for at in calls_at:
        seconds.now = began + at
        assert hit(rates, most)[0] >= 0
    left, wait = hit(rates, most)
    assert (left, 0 < wait <= 2 * WINDOW_S) == (-1, True)
    refused_at = seconds.now
    seconds.now = refused_at + wait - 0.01
    assert hit(rates, most)[0] == -1
    seconds.now = refused_at + wait + 0.01
    assert hit(rates, most)[0] == 0


def test_the_wait_is_right_within_the_second_minute_too(seconds: Seconds) -> None:
    rates = Rates(seconds)
    assert [hit(rates, 10)[0] for _ in range(10)][-1] == 0
    seconds.now += 66  # 9 of the 10 still count, and one more
    assert hit(rates, 10)[0] == 0
    left, wait = hit(rates, 10)
    assert (left, wait) == (-1, pytest.approx(6))


def test_the_count_is_near_that_of_a_list_of_all_calls() -> None:
    """Calls at random times: taking the earlier ones as evenly spread is off by a tenth at most."""
    draw, window, times, now = random.Random(0), Window(0.0), [0.0], 0.0
    window.calls = 1
    for _ in range(3000):
        now += draw.expovariate(5.0)
        window.at(now)
        window.calls += 1
        times.append(now)
        true = sum(t > now - WINDOW_S for t in times)
        if now > 2 * WINDOW_S:
            assert window.at(now) == pytest.approx(true, rel=0.1)


def test_after_two_silent_minutes_nothing_counts_and_the_caller_may_be_dropped(seconds: Seconds) -> None:
    rates = Rates(seconds)
    for n in range(MOST_CALLERS):
        hit(rates, 1, str(n))
    seconds.now += 2 * WINDOW_S
    assert hit(rates, 1, "0")[0] == 0
    hit(rates, 1, "one more")
    assert len(rates._windows) == 2
