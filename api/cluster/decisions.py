"""What the reconciler does about a run, as a pure function of the run's rows, Ray's answers and the time.

Ray is asked what it knows, never believed about what happened: an attempt ends by its driver's word, or by a verdict here, and
then it is fenced out by its number whatever Ray may still run.
"""

from dataclasses import dataclass
from typing import Literal

from xpo_ray.api.cluster.jobs import ENDED, JobStatus
from xpo_ray.run_states import FINAL, Status, wanted_of

AttemptState = Literal["submitting", "submitted", "claimed", "ended"]
Deed = Literal["begin", "submit", "mark_stop", "stop_job", "conclude"]
START_S = 300.0
"""A job that was submitted so long ago and has not claimed its attempt will not."""
KILL_S = 30.0
"""Between Ray's signal and the verdict that the driver is gone."""


@dataclass(frozen=True)
class Seen:
    """A run with its newest attempt, as the database and Ray show them now. Ages in seconds, while the API was up."""

    run_id: str
    attempt: int
    status: Status
    state: AttemptState
    job: JobStatus | None
    """None: Ray does not know such a job."""
    silent_s: float
    """Since the last word of the driver, or since the attempt began where there was none."""
    stopping_s: float | None = None
    """Since the driver was asked to stop."""
    retry_in_s: float = 0.0


@dataclass(frozen=True)
class Action:
    """One thing to be done about a run."""

    deed: Deed
    run_id: str
    attempt: int
    why: str = ""


def decide(seen: Seen, *, ray_answers: bool, lease_s: float, grace_s: float, room: bool = True) -> list[Action]:
    """What to do about a run now, in this order. Where Ray does not answer, only what needs no Ray; where the disk has no room,
    nothing new is started."""

    def act(deed: Deed, why: str = "") -> Action:
        return Action(deed, seen.run_id, seen.attempt, why)

    if seen.state == "ended":
        due = seen.status == "starting" and seen.retry_in_s <= 0 and ray_answers and room
        return [act("begin")] if due else []
    if seen.status in FINAL:
        return [act("stop_job"), act("conclude", "the run is final")]
    wanted = wanted_of(seen.status)
    marks = [act("mark_stop")] if wanted != "run" and seen.stopping_s is None else []
    if not ray_answers:
        return marks
    if seen.state == "submitting":
        if wanted != "run":
            return [act("conclude", "it was stopped before it began")]
        return [act("submit")] if room else []
    if seen.job is None or seen.job in ENDED:
        return [act("conclude", f"its job {_of_ray(seen.job)}")]
    if seen.silent_s > (lease_s if seen.state == "claimed" else START_S):
        return [act("conclude", f"its driver has been silent for {seen.silent_s:.0f} s"), act("stop_job")]
    if seen.stopping_s is not None and seen.stopping_s > grace_s + KILL_S:
        return [act("conclude", "it did not stop within its grace")]
    if seen.stopping_s is not None and seen.stopping_s > grace_s:
        return [act("stop_job", "its grace is over")]
    return marks


def _of_ray(job: JobStatus | None) -> str:
    return "is not known to Ray any more" if job is None else f"ended as {job} without a word"
