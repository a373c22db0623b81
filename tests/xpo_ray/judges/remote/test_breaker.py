"""The circuit breaker, fed with what happened at which second."""

import pytest

from xpo_ray.judges.remote.breaker import Breaker


@pytest.fixture
def opened() -> Breaker:
    """Open since 12.0, because of three failures in a row; cooled down at 17.0."""
    breaker = Breaker(failures_to_open=3, cool_down_s=5.0)
    for now in (10.0, 11.0, 12.0):
        breaker.failed(now, probe=False)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(failures_to_open=3, cool_down_s=5.0)
    for now in (1.0, 2.0):
        breaker.failed(now, probe=False)
        assert not breaker.open
    breaker.answered()
    for now in (3.0, 4.0):
        breaker.failed(now, probe=False)
    assert breaker.wait_s(4.0) == 0.0
    breaker.failed(5.0, probe=False)
    assert breaker.open
    assert breaker.wait_s(5.0) == 5.0


def test_while_it_is_open_nothing_is_sent_until_the_cool_down_is_over_and_then_one_probe(opened: Breaker) -> None:
    assert [opened.wait_s(now) for now in (12.0, 14.0, 16.5)] == [5.0, 3.0, 0.5]
    assert opened.wait_s(17.0) == 0.0
    assert opened.wait_s(17.0) > 0.0


def test_a_probe_that_is_answered_closes_it(opened: Breaker) -> None:
    assert opened.wait_s(17.0) == 0.0
    opened.answered()
    assert [opened.wait_s(17.1), opened.wait_s(17.1)] == [0.0, 0.0]
    assert opened.down_s(18.0) == 0.0


def test_a_probe_that_fails_opens_it_for_another_cool_down_of_the_same_outage(opened: Breaker) -> None:
    assert opened.wait_s(17.0) == 0.0
    opened.failed(18.0, probe=True)
    assert opened.wait_s(18.0) == 5.0
    assert opened.down_s(18.0) == 6.0


def test_a_late_failure_of_an_older_request_does_not_let_a_second_probe_out(opened: Breaker) -> None:
    assert opened.wait_s(17.0) == 0.0
    opened.failed(17.5, probe=False)
    assert opened.wait_s(30.0) > 0.0
    opened.abandoned()
    assert opened.wait_s(30.0) == 0.0


def test_a_throttled_endpoint_is_not_down_but_nothing_is_sent_for_as_long_as_it_asks(opened: Breaker) -> None:
    opened.throttled(20.0, 3.0)
    assert not opened.open
    assert opened.wait_s(21.0) == 2.0
    opened.throttled(21.0, 0.5)
    assert opened.wait_s(22.0) == 1.0
    assert opened.wait_s(23.0) == 0.0


def test_an_outage_begins_when_the_breaker_opens_however_long_ago_its_first_failure_was() -> None:
    breaker = Breaker(failures_to_open=2, cool_down_s=5.0)
    breaker.failed(0.0, probe=False)
    breaker.failed(3600.0, probe=False)
    assert breaker.down_s(3601.0) == 1.0
