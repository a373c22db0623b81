"""What a full disk makes of an attempt, of the queue and of the verdict over silent drivers."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from tests.api.clock import SettableClock
from tests.api.rows import add_run
from xpo_ray.api.attempts.endings import conclude
from xpo_ray.api.attempts.store import begin_attempt
from xpo_ray.api.cluster.capacity import Totals
from xpo_ray.api.database.tables import Attempt, Key, Run
from xpo_ray.api.runs.life import move
from xpo_ray.api.runs.queue import admit_waiting
from xpo_ray.api.services import Services
from xpo_ray.run_states import after_attempt, backoff_s
from xpo_ray.wire.runs import RunError

RUN = "run_full"
FULL = RunError(code="disk_full", message="the disk of /runs is full", kind="system")
LOST = RunError(code="actor_lost", message="the judge died", kind="system")


@pytest.fixture
def queued(services: Services, api: TestClient) -> Services:
    assert api, "the app has made the keys"
    with services.database.read() as session:
        owner = session.scalar(select(Key.id))
    assert owner is not None
    add_run(services, RUN, owner, status="queued", progress={})
    return services


def die(services: Services, error: RunError) -> Run:
    """An attempt that begins and dies of this."""
    with services.database.write() as session:
        run = session.get_one(Run, RUN)
        attempt, _ = begin_attempt(session, run, services.clock())
        conclude(services, session, run, attempt, "died", error)
        return run


def test_a_full_disk_never_fails_a_run_which_waits_longer_each_time(queued: Services, clock: SettableClock) -> None:
    waits = []
    for _ in range(8):
        run = die(queued, FULL)
        assert (run.status, run.fruitless) == ("starting", 0)
        assert run.retry_at is not None
        waits.append((run.retry_at - clock.at).total_seconds())
    assert waits == [backoff_s(n) for n in range(1, 9)]
    assert run.waiting_for is not None
    assert run.waiting_for.startswith(
        "attempt 8 died of disk_full: the disk of /runs is full; the next one starts when"
    )


def test_a_run_that_finds_no_room_twenty_times_in_a_row_pauses_and_counts_anew_when_it_is_resumed(
    queued: Services, clock: SettableClock
) -> None:
    for n in range(1, 20):
        assert die(queued, FULL).status == "starting", n
    run = die(queued, FULL)
    assert (run.status, run.attempt, run.fruitless, run.error) == ("paused", 20, 0, None)
    assert run.waiting_for is not None
    assert run.waiting_for.startswith("20 attempts in a row found no room; make some, then resume the run")
    assert "/runs is full" in run.waiting_for
    clock.advance(seconds=60)
    with queued.database.write() as session:
        move(session, session.get_one(Run, RUN), "queued", queued.clock(), why="asked to resume")
    assert die(queued, FULL).status == "starting"


def test_an_attempt_with_progress_begins_the_count_anew(queued: Services) -> None:
    for n in range(1, 30):
        with queued.database.write() as session:
            run = session.get_one(Run, RUN)
            attempt, _ = begin_attempt(session, run, queued.clock())
            attempt.progressed = n == 15
            conclude(queued, session, run, attempt, "died", FULL)
            assert run.status == "starting", n


def test_other_deaths_count_on_from_where_they_were(queued: Services) -> None:
    for error, fruitless in ((LOST, 1), (FULL, 1), (LOST, 2), (FULL, 2)):
        assert die(queued, error).fruitless == fruitless
    with queued.database.read() as session:
        assert len(session.scalars(select(Attempt.number)).all()) == 4


def test_a_user_who_stops_a_run_is_obeyed_on_a_full_disk_too() -> None:
    def after(status: str) -> str:
        said = after_attempt(status, "died", user_error=False, fruitless=9, most_fruitless=4, without_room=3)  # type: ignore[arg-type]
        return said.status

    assert [after(s) for s in ("running", "pausing", "cancelling")] == ["starting", "paused", "cancelled"]


def test_the_queue_starts_nothing_without_room_and_says_why(queued: Services) -> None:
    totals, why = Totals(cpus=4.0), "3 MiB free under the storage folder, the floor is 512"
    with queued.database.write() as session:
        assert admit_waiting(session, totals, queued.clock(), why) == []
        assert session.get_one(Run, RUN).waiting_for == why
        assert [r.id for r in admit_waiting(session, totals, queued.clock(), None)] == [RUN]
        assert session.get_one(Run, RUN).waiting_for is None


def test_a_write_that_failed_is_remembered_because_heartbeats_may_have_failed_with_it(services: Services) -> None:
    assert services.database.sound_s() == float("inf")
    with pytest.raises(OperationalError), services.database.write():
        raise OperationalError("insert", {}, Exception("database or disk is full"))
    assert services.database.sound_s() < 60
