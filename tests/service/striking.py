"""SIGKILL for an actor of a run in the middle of its work, and the moment at which another one does that work in its place.

Ray gives a worker's process the title of the method that it works on; a process is stopped before it is looked at for the last
time, so that it cannot finish in between.
"""

import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.patience import Deadline
from tests.service.invariants import told
from tests.service.serving import Service

WITHIN_S = 120.0


@dataclass(frozen=True)
class Strike:
    """A kill: of whom (the actor's name as a pattern, its method), when, and which process."""

    role: str
    method: str
    pid: int
    at: float


def strike(service: Service, run_id: str, role: str, method: str) -> Strike:
    """Kill the actor of a role while it is within a method."""
    deadline = Deadline(WITHIN_S)
    while deadline.ahead:
        for pid in _living(service, run_id, role):
            if _seen_within(pid, method, seconds=0.5) and _killed_within(pid, method):
                return Strike(role, method, pid, time.time())
    raise AssertionError(f"no {role} of {run_id} was seen in {method} within {WITHIN_S:.0f} s\n{service.words()}")


def at_work_s(service: Service, run_id: str, kill: Strike) -> float:
    """Seconds from a kill until a new process is within the method of the killed one."""
    deadline = Deadline(WITHIN_S)
    while deadline.ahead:
        for pid in _living(service, run_id, kill.role):
            if pid != kill.pid and _seen_within(pid, kill.method, seconds=0.5):
                return time.time() - kill.at
        time.sleep(0.02)
    raise AssertionError(f"nobody took the place of {kill} within {WITHIN_S:.0f} s\n{service.words()}")


def next_work_s(root: Path, kill: Strike, stage: str) -> float:
    """Seconds from a kill until its role, or who shares it, had finished a piece of work that stands in the journal: a table of
    a stage, or a step that had not been done before (stage `step`). Waits for it."""
    deadline = Deadline(WITHIN_S)
    while deadline.ahead:
        if (found := next(_finished(root, kill.at, stage), None)) is not None:
            return found - kill.at
        time.sleep(0.05)
    raise AssertionError(f"no {stage} after {kill} within {WITHIN_S:.0f} s")


def _finished(root: Path, after: float, stage: str) -> Iterator[float]:
    for event in told(root):
        new_step = event["type"] == "StepDone" and not event["replayed"] and stage == "step"
        new_table = event["type"] == "ShardDone" and event["fresh"] and event["stage"] == stage
        if event["at"] > after and (new_step or new_table):
            yield float(event["at"])


def _living(service: Service, run_id: str, role: str) -> list[int]:
    """Processes of a run's living actors of a role."""
    name = re.compile(rf"{run_id}/\d+/{role}")
    return [a["pid"] for a in service.actors() if a["state"] == "ALIVE" and name.fullmatch(a["name"] or "")]


def _seen_within(pid: int, method: str, seconds: float) -> bool:
    """Whether a process comes to be within a method in the next moments."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _within(pid, method):
            return True
        time.sleep(0.001)
    return False


def _killed_within(pid: int, method: str) -> bool:
    os.kill(pid, signal.SIGSTOP)
    within = _within(pid, method)
    os.kill(pid, signal.SIGKILL if within else signal.SIGCONT)
    return within


def _within(pid: int, method: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"ray::{method}".encode())
    except OSError:
        return False
