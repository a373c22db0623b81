"""What a user does with a run that is there: pause, resume, cancel, edit. Each is one transaction."""

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal, own_run
from xpo_ray.api.database.tables import Run
from xpo_ray.api.events.store import append
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.admission import check_active_runs
from xpo_ray.api.runs.life import Conflict, move
from xpo_ray.api.runs.reservations import reserved
from xpo_ray.api.runs.specs import check_judges_again
from xpo_ray.api.runs.views import run_view
from xpo_ray.api.services import Services
from xpo_ray.run_states import EDITABLE, Command, after_command
from xpo_ray.spec.run import RunSpec
from xpo_ray.wire.runs import Edit, Reservation, RunView

TRIES = 5


def command(services: Services, caller: Principal, run_id: str, what: Command) -> RunView:
    """Obey a command, or find it obeyed. Raises Refusal: 409 run_state_conflict where it cannot be, 429 where the caller's
    active runs are used up, 422 where the operator's lists no longer allow the judge of a run that is to be resumed."""
    for left in reversed(range(TRIES)):
        try:
            with services.database.write() as session:
                run = _locked(session, caller, run_id)
                if what == "resume" and run.status == "paused":
                    check_judges_again(services.settings, run.spec, run.secrets)
                    if run.owner == caller.key_id:
                        check_active_runs(session.connection(), caller)
                view = _obey(session, services, run, what)
            services.changes.tell(run_id)
            return view
        except Conflict:
            if not left:
                raise
    raise AssertionError("the loop returns or raises")


def edit(services: Services, caller: Principal, run_id: str, changes: Edit, version: str) -> RunView:
    """Change a queued or paused run that is as the caller saw it. Raises Refusal 412 where it is not, 409 while it runs."""
    with services.database.write() as session:
        run = _locked(session, caller, run_id)
        if version.strip().removeprefix("W/").strip('"') not in (str(run.version), "*"):
            detail = f"run {run_id} has version {run.version} now, If-Match says {version:.40}; read it again"
            raise Refusal(412, "version_mismatch", detail, field="If-Match")
        if run.status not in EDITABLE:
            raise _conflict(run, "edited")
        told = changes.model_dump(exclude_none=True)
        for name, value in told.items():
            if name == "reservation":
                held = _reserved(services, run, Reservation.model_validate(value))
                run.cpus, run.gpus, run.memory_gib = held.cpus, held.gpus, held.memory_gib
            else:
                setattr(run, "notes" if name == "metadata" else name, value)
        if told:
            run.version += 1
            session.flush()
            append(session, run_id, "run_edited", told, services.clock())
        view = run_view(session.connection(), run)
    services.changes.tell(run_id)
    return view


def _reserved(services: Services, run: Run, asked: Reservation) -> Reservation:
    """As at a submission. Raises Refusal where the roles cannot be placed on it."""
    try:
        spec = RunSpec.model_validate(run.spec)
    except ValidationError:  # of an older version; its driver says what is wrong with it
        return asked
    return reserved(services, spec, asked)


def _obey(session: Session, services: Services, run: Run, what: Command) -> RunView:
    to = after_command(run.status, what)  # type: ignore[arg-type]
    if to is None:
        raise _conflict(run, {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}[what])
    if to != run.status:
        values = {"waiting_for": None, "retry_at": None} if to != "queued" else {"waiting_for": None, "fruitless": 0}
        move(session, run, to, services.clock(), why=f"asked to {what}", **values)
    return run_view(session.connection(), run)


def _locked(session: Session, caller: Principal, run_id: str) -> Run:
    session.execute(select(Run.id).where(Run.id == run_id).with_for_update())
    return own_run(session, caller, run_id, change=True)


def _conflict(run: Run, done: str) -> Refusal:
    return Refusal(409, "run_state_conflict", f"run {run.id} is {run.status} and cannot be {done}", field="status")
