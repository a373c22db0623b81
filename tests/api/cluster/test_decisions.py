"""What the reconciler does, as a table: rows of the database and Ray's answers on the left, actions on the right."""

from dataclasses import replace

import pytest

from xpo_ray.api.cluster.decisions import KILL_S, START_S, Seen, decide

CLAIMED = Seen("run_1", 3, "running", "claimed", "RUNNING", silent_s=1.0)
LEASE_S, GRACE_S = 60.0, 30.0


def deeds(seen: Seen, *, ray_answers: bool = True) -> list[str]:
    return [a.deed for a in decide(seen, ray_answers=ray_answers, lease_s=LEASE_S, grace_s=GRACE_S)]


def test_a_run_that_works_is_left_alone() -> None:
    assert deeds(CLAIMED) == []


@pytest.mark.parametrize("job", ["FAILED", "STOPPED", "SUCCEEDED", None])
@pytest.mark.parametrize("state", ["submitted", "claimed"])
def test_an_attempt_whose_job_is_gone_without_a_word_has_ended(job: str | None, state: str) -> None:
    assert deeds(replace(CLAIMED, job=job, state=state)) == ["conclude"]  # type: ignore[arg-type]


def test_nobody_is_taken_for_dead_while_ray_does_not_answer() -> None:
    assert deeds(replace(CLAIMED, job=None, silent_s=1e6), ray_answers=False) == []


def test_a_driver_that_is_silent_beyond_its_lease_is_stopped_and_given_up() -> None:
    assert deeds(replace(CLAIMED, silent_s=LEASE_S + 1)) == ["conclude", "stop_job"]
    assert deeds(replace(CLAIMED, silent_s=LEASE_S - 1)) == []


def test_a_job_has_longer_to_claim_its_attempt() -> None:
    waiting = replace(CLAIMED, status="starting", state="submitted", job="PENDING")
    assert deeds(replace(waiting, silent_s=LEASE_S + 1)) == []
    assert deeds(replace(waiting, silent_s=START_S + 1)) == ["conclude", "stop_job"]


def test_an_attempt_that_was_begun_is_submitted() -> None:
    begun = replace(CLAIMED, status="starting", state="submitting", job=None)
    assert deeds(begun) == ["submit"]
    assert deeds(begun, ray_answers=False) == []


@pytest.mark.parametrize("status", ["pausing", "cancelling"])
def test_an_attempt_that_is_stopped_before_it_was_submitted_never_is(status: str) -> None:
    begun = replace(CLAIMED, status=status, state="submitting", job=None, stopping_s=0.1)  # type: ignore[arg-type]
    assert deeds(begun) == ["conclude"]


@pytest.mark.parametrize("status", ["pausing", "cancelling"])
def test_a_driver_gets_its_grace_then_a_signal_then_the_verdict(status: str) -> None:
    asked = replace(CLAIMED, status=status)  # type: ignore[arg-type]
    assert deeds(asked) == ["mark_stop"]
    assert deeds(replace(asked, stopping_s=GRACE_S - 1)) == []
    assert deeds(replace(asked, stopping_s=GRACE_S + 1)) == ["stop_job"]
    assert deeds(replace(asked, stopping_s=GRACE_S + KILL_S + 1)) == ["conclude"]


def test_the_next_attempt_waits_for_its_time_and_for_ray() -> None:
    ended = replace(CLAIMED, status="starting", state="ended", job="FAILED", retry_in_s=2.0)
    assert deeds(ended) == []
    assert deeds(replace(ended, retry_in_s=0.0)) == ["begin"]
    assert deeds(replace(ended, retry_in_s=0.0), ray_answers=False) == []


def test_nothing_is_started_without_room_on_the_disk_but_what_runs_goes_on_and_can_be_stopped() -> None:
    def full(seen: Seen) -> list[str]:
        actions = decide(seen, ray_answers=True, lease_s=LEASE_S, grace_s=GRACE_S, room=False)
        return [a.deed for a in actions]

    begun = replace(CLAIMED, status="starting", state="submitting", job=None)
    assert full(replace(CLAIMED, status="starting", state="ended", job="FAILED")) == []
    assert full(begun) == []
    assert full(replace(begun, status="cancelling", stopping_s=0.1)) == ["conclude"]
    assert full(CLAIMED) == []
    assert full(replace(CLAIMED, status="pausing")) == ["mark_stop"]


def test_a_run_that_waits_for_labels_without_an_attempt_is_left_alone() -> None:
    assert deeds(replace(CLAIMED, status="waiting_for_labels", state="ended", job="SUCCEEDED")) == []


def test_a_final_run_keeps_no_attempt() -> None:
    assert deeds(replace(CLAIMED, status="cancelled")) == ["stop_job", "conclude"]
