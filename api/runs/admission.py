"""Accepting a submission: room, quotas, the run's folder with run.json, and the row with its first event.

The folder is written before the row: a folder without a row is swept, a row without a folder would be corruption.
"""

from pathlib import Path
from typing import Any

from pydantic_core import to_json
from sqlalchemy import Connection, func, insert, select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Event, Key, Run, Webhook
from xpo_ray.api.datasets.room import check_disk, check_quota
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL
from xpo_ray.spec.loading import digest
from xpo_ray.storage import write_new
from xpo_ray.wire.runs import Submission

QUEUED = select(func.count()).select_from(Run).where(Run.status == "queued")
NEW_RUN, NEW_EVENT = insert(Run), insert(Event)


def check_room(services: Services, caller: Principal) -> None:
    """Raises Refusal where the disk or a storage quota leaves no room."""
    check_disk(services)
    check_quota(services, caller)


def make_folder(services: Services, run_id: str, plain: dict[str, Any]) -> Path:
    """The run's folder with its run.json, durably. `plain`: the resolved spec as JSON has it."""
    root = services.run_folder(run_id)
    record = {"run_id": run_id, "created": services.clock().timestamp(), "spec": plain, "spec_sha256": digest(plain)}
    write_new(root / "run.json", to_json(record, indent=1) + b"\n")
    return root


def enqueue(
    session: Session,
    services: Services,
    caller: Principal,
    run_id: str,
    asked: Submission,
    plain: dict[str, Any],
    origin: tuple[str, int] | None = None,
) -> Run:
    """The row and its first event, in the caller's transaction; `plain`: the resolved spec as JSON has it. Raises Refusal where
    a quota is used up."""
    connection = session.connection()
    _check_counts(connection, services, caller)
    _check_webhooks(session, caller, asked.webhooks)
    now = services.clock()
    values: dict[str, Any] = dict(
        id=run_id,
        owner=caller.key_id,
        name=plain["name"],
        status="queued",
        attempt=0,
        version=1,
        event_seq=1,
        priority=asked.priority,
        notes=dict(asked.metadata),
        **asked.reservation.model_dump(),
        retention=asked.retention.model_dump(),
        spec=plain,
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
    told: dict[str, Any] = {"owner": caller.key_id, "priority": asked.priority}
    if origin is not None:
        told["forked_from"] = {"run": origin[0], "iteration": origin[1]}
    connection.execute(NEW_RUN, values)
    first = {
        "run_id": run_id,
        "seq": 1,
        "type": "run_queued",
        "level": "info",
        "attempt": 0,
        "at": now,
        "payload": told,
    }
    connection.execute(NEW_EVENT, first)
    return Run(**values)


def _check_counts(connection: Connection, services: Services, caller: Principal) -> None:
    most = services.settings.limits.queued_runs
    queued = connection.execute(QUEUED).scalar_one()
    if queued >= most:
        raise _full(f"{queued} runs are queued, the service takes {most}")
    check_active_runs(connection, caller)


def check_active_runs(connection: Connection, caller: Principal) -> None:
    """Raises Refusal where the caller may not have one more run that is queued or runs. In the transaction that makes it so."""
    most = caller.quotas.active_runs
    if most is None:
        return
    # One submission of a key at a time counts. NO KEY UPDATE: rows that refer to the key hold a share of its row already.
    connection.execute(select(Key.id).where(Key.id == caller.key_id).with_for_update(key_share=True))
    active = select(func.count()).select_from(Run).where(Run.owner == caller.key_id)
    count = connection.execute(active.where(Run.status.not_in([*FINAL, "paused"]))).scalar_one()
    if count >= most:
        raise _full(f"this key has {count} active runs, its quota is {most}")


def _check_webhooks(session: Session, caller: Principal, named: list[str]) -> None:
    for webhook_id in named:
        row = session.get(Webhook, webhook_id)
        if row is None or (row.owner != caller.key_id and not caller.admin):
            raise Refusal(422, "webhook_unknown", f"webhooks: this key has no webhook {webhook_id}", field="webhooks")


def _full(detail: str) -> Refusal:
    return Refusal(429, "quota_exceeded", f"{detail}; wait for one to end", headers={"Retry-After": "30"})
