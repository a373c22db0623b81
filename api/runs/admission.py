"""Accepting a submission: room, quotas, the run's folder with run.json, and the row with its first event.

The folder is written before the row: a folder without a row is swept, a row without a folder would be corruption.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Run, Webhook
from xpo_ray.api.datasets.room import check_disk, check_quota
from xpo_ray.api.events.store import append
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL
from xpo_ray.spec.loading import digest
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import to_json, write_once
from xpo_ray.wire.runs import Submission


def check_room(services: Services, caller: Principal) -> None:
    """Raises Refusal where the disk or a storage quota leaves no room."""
    check_disk(services)
    check_quota(services, caller)


def make_folder(services: Services, run_id: str, spec: RunSpec) -> Path:
    """The run's folder with its run.json, durably."""
    root = services.run_folder(run_id)
    root.mkdir(parents=True, exist_ok=True)
    plain = spec.model_dump(mode="json")
    record = {"run_id": run_id, "created": services.clock().timestamp(), "spec": plain, "spec_sha256": digest(plain)}
    write_once(root / "run.json", to_json(record))
    return root


def enqueue(
    session: Session,
    services: Services,
    caller: Principal,
    run_id: str,
    asked: Submission,
    spec: RunSpec,
    origin: tuple[str, int] | None = None,
) -> Run:
    """The row and its first event, in the caller's transaction. Raises Refusal where a quota is used up."""
    _check_counts(session, services, caller)
    _check_webhooks(session, caller, asked.webhooks)
    now = services.clock()
    run = Run(
        id=run_id,
        owner=caller.key_id,
        name=spec.name,
        status="queued",
        attempt=0,
        version=1,
        event_seq=0,
        priority=asked.priority,
        notes=dict(asked.metadata),
        **asked.reservation.model_dump(),
        retention=asked.retention.model_dump(),
        spec=spec.model_dump(mode="json"),
        secrets=list(asked.secrets),
        webhooks=list(asked.webhooks),
        progress={},
        fruitless=0,
        created_at=now,
        queued_at=now,
        deleting=False,
        forked_run=None if origin is None else origin[0],
        forked_iteration=None if origin is None else origin[1],
    )
    session.add(run)
    session.flush()
    told: dict[str, Any] = {"owner": caller.key_id, "priority": asked.priority}
    if origin is not None:
        told["forked_from"] = {"run": origin[0], "iteration": origin[1]}
    append(session, run_id, "run_queued", told, now)
    session.refresh(run)
    return run


def _check_counts(session: Session, services: Services, caller: Principal) -> None:
    most = services.settings.limits.queued_runs
    queued = session.scalar(select(func.count()).select_from(Run).where(Run.status == "queued")) or 0
    if queued >= most:
        raise _full(f"{queued} runs are queued, the service takes {most}")
    own = caller.quotas.active_runs
    if own is not None:
        active = select(func.count()).select_from(Run).where(Run.owner == caller.key_id)
        count = session.scalar(active.where(Run.status.not_in([*FINAL, "paused"]))) or 0
        if count >= own:
            raise _full(f"this key has {count} active runs, its quota is {own}")


def _check_webhooks(session: Session, caller: Principal, named: list[str]) -> None:
    for webhook_id in named:
        row = session.get(Webhook, webhook_id)
        if row is None or (row.owner != caller.key_id and not caller.admin):
            raise Refusal(422, "webhook_unknown", f"webhooks: this key has no webhook {webhook_id}", field="webhooks")


def _full(detail: str) -> Refusal:
    return Refusal(429, "quota_exceeded", f"{detail}; wait for one to end", headers={"Retry-After": "30"})
