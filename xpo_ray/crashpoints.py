"""Named places at which the fault tests end a process, the hard way. Without XPO_CRASH_AT nothing here does anything.

XPO_CRASH_AT=<point>:<n>[:driver] kills this process (or the driver that XPO_DRIVER_PID names) with SIGKILL at the n-th time
that it passes the point; several are separated by commas. XPO_CRASH_MARK is a path; a file <mark>.<point> is made first, so
that each happens once in the life of a test.
"""

import os
import signal
import time
from collections import Counter
from pathlib import Path

POINTS = (
    "table.before_data",
    "table.after_data",
    "table.after_commit",
    "checkpoint.before_files",
    "checkpoint.after_files",
    "checkpoint.before_commit",
    "checkpoint.after_commit",
    "attempt.after_folder",
    "attempt.after_adoption",
    "step.after_step",
    "step.after_ledger",
    "iteration.after_publish",
    "run.before_finish",
)
"""Of every run."""

GROUP_POINTS = ("step.within", "checkpoint.before_confirm")
"""Of the ranks of a trainer group, all but the first."""

SERVICE_POINTS = (
    "database.before_commit",
    "database.after_commit",
    "run.after_folder",
    "attempt.after_ticket",
    "job.after_submit",
    "claim.after_store",
    "journal.after_store",
    "end.after_store",
    "driver.after_claim",
    "driver.before_end",
    "driver.after_end",
)
"""Of a run in the service: its API, and the words between the API and a driver."""

_passed: Counter[str] = Counter()


def crash_point(point: str) -> None:
    """Pass a commit boundary."""
    wanted = os.environ.get("XPO_CRASH_AT")
    if not wanted:
        return
    _passed[point] += 1
    for entry in wanted.split(","):
        name, count, *who = entry.split(":")
        if name == point and int(count) == _passed[point] and _first_time(point):
            _kill(driver=who == ["driver"])


def _kill(*, driver: bool) -> None:
    pid = int(os.environ.get("XPO_DRIVER_PID", os.getpid())) if driver else os.getpid()
    os.kill(pid, signal.SIGKILL)
    if pid == os.getpid():
        time.sleep(60)


def _first_time(point: str) -> bool:
    mark = os.environ.get("XPO_CRASH_MARK")
    if mark is None:
        return True
    try:
        os.close(os.open(Path(f"{mark}.{point}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
