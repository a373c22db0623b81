"""A thread that does one thing again and again: how often, however often it is woken."""

import time
from itertools import pairwise

from xpo_ray.api.background import AT_MOST_EVERY_S, Background


def test_a_thread_that_is_woken_all_the_time_keeps_a_distance_between_its_turns() -> None:
    turns: list[float] = []
    thread = Background("busy", lambda: turns.append(time.monotonic()), 60)
    thread.start()
    while len(turns) < 4:
        thread.wake()
        time.sleep(0.001)
    thread.stop()
    assert not thread.alive
    assert all(after - before > 0.9 * AT_MOST_EVERY_S for before, after in pairwise(turns))


def test_what_came_while_it_rested_gets_a_turn_of_its_own() -> None:
    wanted, done = [1], list[int]()
    thread = Background("busy", lambda: done.extend(wanted[len(done) :]), 60)
    thread.start()
    while not done:
        time.sleep(0.001)
    wanted.append(2)
    thread.wake()
    while len(done) < 2:
        time.sleep(0.001)
    thread.stop()
    assert done == [1, 2]


def test_it_goes_on_after_a_turn_that_failed_and_says_what_it_failed_with() -> None:
    turns: list[str | None] = []

    def once() -> None:
        turns.append(thread.failure)
        if len(turns) == 1:
            raise OSError("away")

    thread = Background("busy", once, 0.001)
    thread.start()
    while len(turns) < 3:
        time.sleep(0.001)
    thread.stop()
    assert turns[:3] == [None, "OSError: away", None]


def test_a_turn_says_how_long_the_next_one_may_wait() -> None:
    turns: list[float] = []

    def once() -> float:
        turns.append(time.monotonic())
        return 0.001 if len(turns) < 3 else 60

    thread = Background("patient", once, 60, 0.0)
    thread.start()
    while len(turns) < 3:
        time.sleep(0.001)
    thread.stop()
    assert len(turns) == 3
