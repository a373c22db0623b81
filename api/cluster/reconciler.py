"""The reconciler: makes what Ray runs agree with what the database says, a turn each second and whenever a run changes.

    admission ─► begin ─► ticket ─► job ─► (the driver claims, works, ends) ─► next attempt, or the run is final
                    what to do: decisions.decide         what it takes: the methods here, each of which may be done twice

A killed API goes on here after its next start: jobs that run are adopted by looking at them, nothing is kept in memory that the
rows do not say.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.attempts.endings import conclude, tidy
from xpo_ray.api.attempts.store import begin_attempt, locked, renew_ticket
from xpo_ray.api.cluster.capacity import Totals
from xpo_ray.api.cluster.decisions import Action, Seen, decide
from xpo_ray.api.cluster.jobs import ENDED, Jobs, JobStatus, NewJob, RayAway
from xpo_ray.api.cluster.link import ClusterView, Link
from xpo_ray.api.cluster.logs import LogKeeper
from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.datasets.room import disk_fault
from xpo_ray.api.metrics import ATTEMPTS, RAY_UP, RECONCILE
from xpo_ray.api.runs.folder import make_folder
from xpo_ray.api.runs.life import Conflict
from xpo_ray.api.services import Services
from xpo_ray.crashpoints import crash_point
from xpo_ray.errors import DiskFull
from xpo_ray.run_states import ALIVE, FINAL
from xpo_ray.storage import replace_file

log = logging.getLogger("xpo_ray.api")
Admit = Callable[[Session, Totals, datetime, str | None], list[Run]]
EVERY_S = 1.0
"""Between two looks at runs under way: a job that dies says nothing."""
IDLE_S = 5.0
"""Between two looks where no run is: news wakes the reconciler, but not the end of an idle Ray head, nor another process."""
FROZEN_S = 5.0
"""A turn that comes so much later than it should means that this process stood still: drivers get their lease anew."""
LOOK_AT_RESOURCES_S = 10.0
PREFIX = "run_"
"""Of the submission ids of attempts; others may have jobs on the same cluster."""


class Reconciler:
    """One turn is `turn()`; xpo_ray.api.background calls it."""

    def __init__(self, services: Services, link: Link, admit: Admit) -> None:
        self.view = ClusterView()
        self._services = services
        self._link = link
        self._admit = admit
        self._logs = LogKeeper(services)
        self._up_since = services.clock()
        self._last_turn = time.monotonic()
        self._rest_s = EVERY_S
        self._looked = float("-inf")
        self._full: str | None = None
        """Why nothing new is started: a disk without room."""

    def turn(self) -> float:
        """Look at everything once, and do what is to be done; returns for how long the next look may wait for news."""
        self._note_freeze()
        self._rest_s = EVERY_S
        self._full = disk_fault(self._services)
        with RECONCILE.time():
            try:
                jobs = self._link.jobs()
                known = jobs.all()
                self._look(jobs)
            except RayAway as error:
                self._away()
                self._act_on(None, {})
                raise error
            self._admit_waiting()
            under_way = self._act_on(jobs, known)
            running = self._stop_strays(jobs, known)
            self._logs.keep(jobs, known)
        self._last_turn = time.monotonic()
        self._rest_s = EVERY_S if under_way or running else IDLE_S
        return self._rest_s

    def _note_freeze(self) -> None:
        if time.monotonic() - self._last_turn > self._rest_s + FROZEN_S:
            self._up_since = self._services.clock()
        self._last_turn = time.monotonic()

    def _look(self, jobs: Jobs) -> None:
        if time.monotonic() - self._looked > LOOK_AT_RESOURCES_S or not self.view.alive:
            self.view = self._link.view(jobs)
            self._services.totals = self.view.totals
            self._looked = time.monotonic()
        RAY_UP.set(1)

    def _away(self) -> None:
        self.view = ClusterView(False, self.view.address, self.view.totals)
        RAY_UP.set(0)

    def _admit_waiting(self) -> None:
        with self._services.database.read() as session:
            if session.scalar(select(Run.id).where(Run.status == "queued").limit(1)) is None:
                return
        with self._services.database.write() as session:
            admitted = [run.id for run in self._admit(session, self.view.totals, self._services.clock(), self._full)]
        for run_id in admitted:
            self._services.changes.tell(run_id)

    def _act_on(self, jobs: Jobs | None, known: dict[str, JobStatus]) -> bool:
        """Says whether any run is under way."""
        settings = self._services.settings
        found = self._seen(known)
        for seen in found:
            actions = decide(
                seen,
                ray_answers=jobs is not None,
                lease_s=settings.lease_s,
                grace_s=settings.stop_grace_s,
                room=self._full is None,
            )
            for action in actions:
                log.info("run %s attempt %s: %s %s", action.run_id, action.attempt, action.deed, action.why)
                with suppress(Conflict):  # somebody was faster; the next turn looks again
                    self._tried(action, jobs)
        return bool(found)

    def _seen(self, known: dict[str, JobStatus]) -> list[Seen]:
        now = self._services.clock()
        with self._services.database.read() as session:
            rows = session.execute(
                select(Run, Attempt)
                .join(Attempt, (Attempt.run_id == Run.id) & (Attempt.number == Run.attempt))
                .where(Run.status.in_(ALIVE) | (Run.status.in_(FINAL) & (Attempt.state != "ended")))
            ).all()
        return [self._of_rows(run, attempt, known, now) for run, attempt in rows]

    def _of_rows(self, run: Run, attempt: Attempt, known: dict[str, JobStatus], now: datetime) -> Seen:
        heard = max(attempt.heartbeat_at or attempt.started_at, self._up_since)
        stopping = attempt.stop_wanted_at
        return Seen(
            run_id=run.id,
            attempt=attempt.number,
            status=run.status,  # type: ignore[arg-type]
            state=attempt.state,  # type: ignore[arg-type]
            job=known.get(attempt.ray_job),
            silent_s=min((now - heard).total_seconds(), self._services.database.sound_s()),
            stopping_s=None if stopping is None else (now - stopping).total_seconds(),
            retry_in_s=0.0 if run.retry_at is None else (run.retry_at - now).total_seconds(),
        )

    def _tried(self, action: Action, jobs: Jobs | None) -> None:
        """Do it; a run whose folder cannot be written says so to its user, keeps nobody else waiting, and is tried again."""
        try:
            self._do(action, jobs)
        except (OSError, DiskFull) as error:
            why = f"its folder cannot be written: {error}"[:500]
            log.warning("run %s attempt %s: %s", action.run_id, action.attempt, why)
            with self._services.database.write() as session:
                run = session.get(Run, action.run_id, with_for_update=True)
                if run is not None and run.status not in FINAL and run.waiting_for != why:
                    run.waiting_for = why
                    run.version += 1
            self._services.changes.tell(action.run_id, progress=True)

    def _do(self, action: Action, jobs: Jobs | None) -> None:
        if action.deed == "begin":
            self._begin(action)
        elif action.deed == "mark_stop":
            self._mark_stop(action)
        elif action.deed == "conclude":
            self._conclude(action)
        elif jobs is not None and action.deed == "submit":
            self._submit(action, jobs)
        elif jobs is not None:
            jobs.stop(_job_id(action))

    def _begin(self, action: Action) -> None:
        with self._services.database.write() as session:
            run = session.get(Run, action.run_id, with_for_update=True)
            if run is not None and run.attempt == action.attempt and run.status == "starting":
                begin_attempt(session, run, self._services.clock(), why=f"attempt {action.attempt + 1} goes on")
        self._services.changes.tell(action.run_id)

    def _mark_stop(self, action: Action) -> None:
        with self._services.database.write() as session:
            attempt = locked(session, action.run_id, action.attempt)
            if attempt is not None and attempt.stop_wanted_at is None:
                attempt.stop_wanted_at = self._services.clock()

    def _conclude(self, action: Action) -> None:
        """The verdict that an attempt is over; from now on whatever its driver says is refused."""
        with self._services.database.write() as session:
            run = session.get(Run, action.run_id, with_for_update=True)
            attempt = locked(session, action.run_id, action.attempt)
            if run is None or attempt is None:
                return
            if run.status in FINAL:
                attempt.state, attempt.ending, attempt.ended_at = "ended", "superseded", self._services.clock()
            else:
                conclude(self._services, session, run, attempt, "died", None)
            final = run.status in FINAL
        ATTEMPTS.labels("died").inc()
        if final:
            tidy(self._services, action.run_id)
        self._services.changes.tell(action.run_id)

    def _submit(self, action: Action, jobs: Jobs) -> None:
        """Ticket and job of an attempt; done again after a kill in between, with a new ticket where the first was lost."""
        root = self._services.run_folder(action.run_id)
        ticket = root / "attempts" / f"{action.attempt:04d}" / "ticket"
        with self._services.database.write() as session:
            fresh = renew_ticket(session, action.run_id, action.attempt)
            run = session.get(Run, action.run_id)
        if fresh is None or run is None:
            return
        make_folder(root, run)
        replace_file(ticket, fresh.encode())
        crash_point("attempt.after_ticket")
        jobs.submit(self._job(run, action))
        crash_point("job.after_submit")
        with self._services.database.write() as session:
            attempt = locked(session, action.run_id, action.attempt)
            if attempt is not None and attempt.state == "submitting":
                attempt.state = "submitted"

    def _job(self, run: Run, action: Action) -> NewJob:
        settings = self._services.settings
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
        variables = {"PYTHONPATH": ":".join(settings.plugin_path)} if settings.plugin_path else {}
        return NewJob(
            submission_id=_job_id(action),
            name=run.name,
            run_id=run.id,
            attempt=action.attempt,
            root=self._services.run_folder(run.id),
            api=settings.public_url or f"http://{host}:{settings.port}",
            variables={**variables, "RAY_JOB_STOP_WAIT_TIME_S": f"{settings.stop_grace_s:.0f}"},
        )

    def _stop_strays(self, jobs: Jobs, known: dict[str, JobStatus]) -> bool:
        """Jobs of attempts that have ended for the service: they are fenced out, but they hold the cluster. Says whether any
        attempt's job is running still."""
        running = [job for job, status in known.items() if status not in ENDED and job.startswith(PREFIX)]
        if not running:
            return False
        with self._services.database.read() as session:
            strays = session.scalars(
                select(Attempt.ray_job).where(
                    Attempt.ray_job.in_(running),
                    Attempt.state == "ended",
                    Attempt.ending.in_(("died", "superseded")),
                )
            ).all()
        for job in strays:
            jobs.stop(job)
        return True


def _job_id(action: Action) -> str:
    return f"{action.run_id}-{action.attempt}"
