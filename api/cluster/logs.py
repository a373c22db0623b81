"""Keeps what the drivers' jobs write: copies Ray's logs into the attempts' folders while they run and at their end, because Ray
forgets them. Capped: the head and the tail of a long log stay.
"""

import time
from pathlib import Path

from sqlalchemy import select

from xpo_ray.api.cluster.jobs import ENDED, Jobs, JobStatus, RayAway
from xpo_ray.api.database.tables import Attempt
from xpo_ray.api.services import Services

EVERY_S = 10.0
MOST_BYTES = 64 * 2**20
GAP = b"\n[... the middle of this log was left out ...]\n"


class LogKeeper:
    """Copies each job's log now and then, and once more when it has ended."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: dict[str, float] = {}
        self._done: set[str] = set()

    def keep(self, jobs: Jobs, known: dict[str, JobStatus]) -> None:
        """Copy what is due."""
        now = time.monotonic()
        due = [
            job
            for job, status in known.items()
            if job not in self._done and (status in ENDED or now - self._kept.get(job, -EVERY_S) >= EVERY_S)
        ]
        for job in due[:8]:
            self._copy(jobs, job)
            self._kept[job] = now
            if known[job] in ENDED:
                self._done.add(job)

    def _copy(self, jobs: Jobs, job: str) -> None:
        with self._services.database.read() as session:
            row = session.execute(select(Attempt.run_id, Attempt.number).where(Attempt.ray_job == job)).first()
        if row is None:
            return
        target = self._services.run_folder(row[0]) / "attempts" / f"{row[1]:04d}" / "driver.log"
        try:
            data = jobs.log(job)
        except RayAway:
            return
        if target.parent.is_dir():
            _bring_up_to(target, capped(data))


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
