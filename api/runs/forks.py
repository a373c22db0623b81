"""A new run whose initial model is that of an iteration of another. The parent cannot be deleted while its fork is there.

Whoever may submit may fork any run that they may read. The parent's named secrets go on only with its owner or an admin; a fork
of anybody else has none but those that it names, as a submission does.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.artifacts.committed import Committed
from xpo_ray.api.auth import Principal, own_run
from xpo_ray.api.database.tables import Run
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.admission import enqueue
from xpo_ray.api.runs.fitting import check_fits
from xpo_ray.api.runs.reservations import reserved
from xpo_ray.api.runs.retention import freed
from xpo_ray.api.runs.specs import resolved
from xpo_ray.api.services import Services
from xpo_ray.wire.runs import Fork, Reservation, Retention, RunView, Submission


def fork_spec(
    services: Services, caller: Principal, parent: Run, asked: Fork, run_id: str
) -> tuple[Submission, dict[str, Any]]:
    """The submission of a fork, and its resolved spec as JSON has it. Raises Refusal."""
    if "model" in asked.changes and {"path", "registered"} & set(asked.changes["model"] or {}):
        raise Refusal(
            422, "spec_invalid", "changes.model: a fork starts from its parent's model", field="changes.model"
        )
    base = {name: value for name, value in parent.spec.items() if name != "output"}
    raw = merged(base, asked.changes)
    raw["name"] = asked.name or parent.name
    submission = Submission(
        spec=raw,
        priority=asked.priority,
        metadata=asked.metadata,
        reservation=asked.reservation or _of_parent(parent),
        retention=Retention.model_validate(parent.retention),
        secrets=secrets_of(caller, parent, asked),
    )
    folder = _model(services, parent, asked.iteration)
    spec = resolved(services, raw, submission.secrets, run_id, model=folder)
    submission = submission.model_copy(update={"reservation": reserved(services, spec, submission.reservation)})
    check_fits(services, spec, submission.reservation)
    return submission, spec.model_dump(mode="json")


def _of_parent(parent: Run) -> Reservation:
    """Its GPUs are counted anew: the fork may have other roles."""
    return Reservation(cpus=parent.cpus, memory_gib=parent.memory_gib)


def secrets_of(caller: Principal, parent: Run, asked: Fork) -> list[str]:
    """Names of the secrets that a fork has: those that it names, else its parent's where the caller has a right to them."""
    if asked.secrets is not None:
        return list(asked.secrets)
    return list(parent.secrets) if caller.admin or parent.owner == caller.key_id else []


def enqueue_fork(
    session: Session,
    services: Services,
    caller: Principal,
    parent_id: str,
    run_id: str,
    made: tuple[Submission, dict[str, Any]],
    iteration: int,
) -> RunView:
    """Queue the fork, in the caller's transaction, while the parent is still there."""
    session.execute(select(Run.id).where(Run.id == parent_id).with_for_update())
    own_run(session, caller, parent_id, change=False)
    if iteration > 0 and iteration in freed(session, parent_id):
        raise _no_checkpoint(parent_id, iteration)
    return enqueue(session.connection(), services, caller, run_id, *made, origin=(parent_id, iteration))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Changes laid over a spec, object by object; an object of another kind takes the place of the old one."""
    out = dict(base)
    for name, value in changes.items():
        old = out.get(name)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("kind", old.get("kind")) == old.get("kind")
        )
        out[name] = merged(old, value) if same and isinstance(old, dict) else value
    return out


def _model(services: Services, parent: Run, iteration: int) -> Path:
    model = parent.spec.get("model", {})
    if iteration == 0 and "path" in model:
        return Path(model["path"])
    if model.get("lora"):
        detail = (
            f"run {parent.id} trains an adapter, whose checkpoints are no models; register its exported result instead"
        )
        raise Refusal(409, "fork_of_adapter", detail, field="iteration")
    root = services.run_folder(parent.id)
    committed = Committed.of(root)
    for checkpoint in committed.checkpoints() if committed is not None else ():
        folder = root / checkpoint.path / "model"
        if (checkpoint.iteration, checkpoint.step) == (iteration, 0) and folder.is_dir():
            return folder
    raise _no_checkpoint(parent.id, iteration)


def _no_checkpoint(parent_id: str, iteration: int) -> Refusal:
    detail = f"run {parent_id} has no checkpoint of iteration {iteration} any more, or not yet"
    return Refusal(409, "checkpoint_not_found", detail, field="iteration")
