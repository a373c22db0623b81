"""The life of a run as pure rules: which status may follow which, and what the end of an attempt makes of it (DESIGN §7).

                 ┌──────────── next attempt ───────────┐
    queued ─► starting ─► running ◄─► waiting_for_labels
       ▲ │        └──────────┴──┬──────────┘
       │ └─► paused ◄─ pausing ◄┤      every status but the final ones ─► cancelling ─► cancelled
       └────────┘               └─► succeeded, failed

The API changes a status only along these arrows, in one transaction with the event that tells of it. Nothing here does I/O.
"""

from dataclasses import dataclass
from typing import Literal

Status = Literal[
    "queued",
    "starting",
    "running",
    "waiting_for_labels",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "succeeded",
    "failed",
]
Wanted = Literal["run", "pause", "cancel", "superseded"]
Ending = Literal["succeeded", "failed", "paused", "cancelled", "parked", "died", "superseded"]
"""How an attempt ended: `died` without a word, `parked` to free the cluster while people label."""

FINAL: frozenset[Status] = frozenset({"cancelled", "succeeded", "failed"})
ALIVE: frozenset[Status] = frozenset({"starting", "running", "waiting_for_labels", "pausing", "cancelling"})
"""An attempt is under way (or parked), and the run holds its reservation."""
EDITABLE: frozenset[Status] = frozenset({"queued", "paused"})

FOLLOWS: dict[Status, frozenset[Status]] = {
    "queued": frozenset({"starting", "paused", "cancelled", "failed"}),
    "starting": frozenset({"starting", "running", "pausing", "cancelling", "succeeded", "failed"}),
    "running": frozenset({"starting", "waiting_for_labels", "pausing", "cancelling", "succeeded", "failed"}),
    "waiting_for_labels": frozenset(
        {"starting", "running", "queued", "paused", "pausing", "cancelling", "cancelled", "succeeded", "failed"}
    ),
    "pausing": frozenset({"paused", "cancelling", "succeeded", "failed"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancelling": frozenset({"cancelled"}),
    "cancelled": frozenset(),
    "succeeded": frozenset(),
    "failed": frozenset(),
}


def may_follow(before: Status, after: Status) -> bool:
    """Whether a run may go from one status to the other."""
    return after in FOLLOWS[before]


def wanted_of(status: Status) -> Wanted:
    """What the driver of a run in this status shall do; a run that is final or queued wants no driver."""
    if status == "cancelling" or status in FINAL:
        return "cancel"
    return "pause" if status in ("pausing", "paused", "queued") else "run"


Command = Literal["pause", "resume", "cancel"]

_PAUSE: dict[Status, Status] = {
    "queued": "paused",
    "starting": "pausing",
    "running": "pausing",
    "waiting_for_labels": "pausing",
}
_CANCEL: dict[Status, Status] = {
    "queued": "cancelled",
    "paused": "cancelled",
    "starting": "cancelling",
    "running": "cancelling",
    "waiting_for_labels": "cancelling",
    "pausing": "cancelling",
}
_SETTLED: dict[Command, frozenset[Status]] = {
    "pause": frozenset({"pausing", "paused"}),
    "resume": frozenset({"queued", "starting", "running", "waiting_for_labels"}),
    "cancel": frozenset({"cancelling", "cancelled"}),
}


def after_command(status: Status, command: Command) -> Status | None:
    """The status that a user's command leads to: the same one where it has been obeyed already, None where it cannot be."""
    if status in _SETTLED[command]:
        return status
    if command == "resume":
        return "queued" if status == "paused" else None
    return (_PAUSE if command == "pause" else _CANCEL).get(status)


@dataclass(frozen=True)
class Next:
    """What becomes of a run whose attempt has ended."""

    status: Status
    after_s: float = 0.0
    """Before the next attempt starts, where the status is `starting`."""


def after_attempt(
    status: Status,
    ending: Ending,
    *,
    user_error: bool,
    fruitless: int,
    most_fruitless: int,
    without_room: int = 0,
    most_without_room: int = 20,
) -> Next:
    """What becomes of a run.

    `fruitless` counts the attempts in a row, this one included, that ended without progress; `without_room` those that a full
    disk ended, which nobody is blamed for: the run waits until there is room, and pauses where waiting has not helped so often.
    A user's command that is under way wins over everything but success, and a cancel over that too.
    """
    if status in FINAL:
        return Next(status)
    if status == "cancelling" or ending == "cancelled":
        return Next("cancelled")
    if ending == "succeeded":
        return Next("succeeded")
    if status == "pausing" or ending == "paused":
        return Next("paused")
    if ending == "parked":
        return Next("waiting_for_labels")
    if user_error or ending == "failed":
        return Next("failed")
    if without_room >= most_without_room:
        return Next("paused")
    if without_room:
        return Next("starting", backoff_s(without_room))
    if fruitless > most_fruitless:
        return Next("failed")
    return Next("starting", backoff_s(fruitless))


def backoff_s(fruitless: int) -> float:
    """Seconds before the next attempt: none after progress, then 2, 4, 8, … up to 5 minutes."""
    return 0.0 if fruitless == 0 else min(2.0**fruitless, 300.0)
