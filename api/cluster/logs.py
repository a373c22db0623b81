"""Keeps what the drivers' jobs write: copies Ray's logs into the attempts' folders while they run and at their end, because Ray
forgets them. Capped: the head and the tail of a long log stay. Then lets Ray forget the jobs that ended long ago, of which it
would else tell at every look.
"""

import logging
import time
from pathlib import Path

from sqlalchemy import select

from xpo_ray.api.cluster.jobs import ENDED, Jobs, JobStatus, RayAway
from xpo_ray.api.database.tables import Attempt
from xpo_ray.api.services import Services

log = logging.getLogger("xpo_ray.api")
EVERY_S = 10.0
MOST_BYTES = 64 * 2**20
JOBS_LEFT = 100
"""Jobs that have ended and stay in Ray's dashboard, the newest."""
GAP = b"\n[... the middle of this log was left out ...]\n"


class LogKeeper:
    """Copies each job's log now and then, and once more when it has ended."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: dict[str, float] = {}
        self._ended: set[str] = set()
        self._done: set[str] = set()
        self._ours: set[str] = set()
        """Jobs that had a run when their log was copied; others may have jobs on the same cluster."""
        self._forgot = float("-inf")

    def keep(self, jobs: Jobs, known: dict[str, JobStatus]) -> None:
        """Copy what is due."""
        now = time.monotonic()
        due = [job for job, status in known.items() if job not in self._done and self._is_due(job, status, now)]
        for job in due[:8]:
            ended, self._kept[job] = known[job] in ENDED, now
            copied = self._copy(jobs, job)
            if ended:
                self._ended.add(job)
            if ended and copied:
                self._done.add(job)
        if now - self._forgot >= EVERY_S:
            self._forgot = now
            self._forget(jobs, known)

    def _forget(self, jobs: Jobs, known: dict[str, JobStatus]) -> None:
        """Delete from Ray what ended long ago, and what belonged to a run that was deleted."""
        for seen in (self._ended, self._done, self._ours):
            seen.intersection_update(known)
        self._kept = {job: at for job, at in self._kept.items() if job in known}
        finished = self._done & self._ours
        with self._services.database.read() as session:
            rows = session.execute(
                select(Attempt.ray_job, Attempt.state).where(Attempt.ray_job.in_(finished)).order_by(Attempt.ended_at.desc())
            ).all()
        ended = [row.ray_job for row in rows if row.state == "ended"]
        for job in [*ended[JOBS_LEFT:], *finished.difference(row.ray_job for row in rows)]:
            jobs.delete(job)

    def _is_due(self, job: str, status: JobStatus, now: float) -> bool:
        """At once when it has ended, else now and then."""
        ended_since = status in ENDED and job not in self._ended
        return ended_since or now - self._kept.get(job, float("-inf")) >= EVERY_S

    def _copy(self, jobs: Jobs, job: str) -> bool:
        """Says whether all that can be had is there; a disk without room is tried again."""
        with self._services.database.read() as session:
            row = session.execute(select(Attempt.run_id, Attempt.number).where(Attempt.ray_job == job)).first()
        if row is None:
            return True
        self._ours.add(job)
        target = self._services.run_folder(row[0]) / "attempts" / f"{row[1]:04d}" / "driver.log"
        try:
            data = jobs.log(job)
        except RayAway:
            return True
        try:
            if target.parent.is_dir():
                _bring_up_to(target, capped(data))
        except OSError as error:
            log.warning("the log of %s cannot be kept now: %s", job, error)
            return False
        return True


def _bring_up_to(target: Path, data: bytes) -> None:
    """Add what is new; a log that has grown beyond the cap is written anew. Readers see a log that grows."""
    have = target.stat().st_size if target.exists() else 0
    if len(data) == MOST_BYTES:
        target.write_bytes(data)
    elif len(data) > have:
        with target.open("ab") as file:
            file.write(data[have:])


def capped(data: bytes, most: int = MOST_BYTES) -> bytes:
    """The log, or its head and tail where it is too long."""
    if len(data) <= most:
        return data
    half = (most - len(GAP)) // 2
    return data[:half] + GAP + data[half + len(GAP) - most :]
