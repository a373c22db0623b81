"""Heartbeats of drivers, and what each shall do."""

from xpo_ray.api.attempts.store import living, of_driver
from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.services import Services
from xpo_ray.run_states import Wanted, wanted_of


def beat(services: Services, run_id: str, number: int, token: str) -> Wanted:
    """Note that a driver lives; returns what it shall do."""
    with services.database.write() as session:
        run, attempt = of_driver(session, run_id, number, token)
        if living(run, attempt):
            attempt.heartbeat_at = services.clock()
        return _wanted(run, attempt)


def wanted_now(services: Services, run_id: str, number: int) -> Wanted:
    """What a driver shall do; `superseded` where its attempt no longer counts."""
    with services.database.read() as session:
        return _wanted(session.get(Run, run_id), session.get(Attempt, (run_id, number)))


def _wanted(run: Run | None, attempt: Attempt | None) -> Wanted:
    if run is None or attempt is None or not living(run, attempt):
        return "superseded"
    return wanted_of(run.status)  # type: ignore[arg-type]
