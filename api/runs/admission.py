"""Accepting a submission: room, quotas, and the row with its first event. Its folder is made when an attempt begins."""

from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Event, Key, Run, Webhook
from xpo_ray.api.datasets.room import check_disk, check_quota
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.views import view_of_new
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL
from xpo_ray.wire.runs import RunView, Submission

BEFORE = (Run.priority > bindparam("priority")) | (
    (Run.priority == bindparam("priority"))
    & ((Run.queued_at < bindparam("now")) | ((Run.queued_at == bindparam("now")) & (Run.id < bindparam("run_id"))))
)
QUEUED = select(func.count().label("queued"), func.count().filter(BEFORE).label("before")).where(Run.status == "queued")
"""How many runs are in the queue, and how many of them stand before a new one."""
NEW_RUN, NEW_EVENT = insert(Run), insert(Event)
LOCK = 0x78706F5F717565
"""Of PostgreSQL's advisory locks: "xpo_que". Near the limit one submission at a time counts the queue; on SQLite one writer
exists anyway."""
SPARE = 200
"""Places that may be left before submissions go one at a time: more than are ever under way at once (PostgreSQL takes 100
connections unless told otherwise)."""


def check_room(services: Services, caller: Principal) -> None:
    """Raises Refusal where the disk or a storage quota leaves no room."""
    check_disk(services)
    check_quota(services, caller)


def enqueue(
    connection: Connection,
    services: Services,
    caller: Principal,
    run_id: str,
    asked: Submission,
    plain: dict[str, Any],
    origin: tuple[str, int] | None = None,
) -> RunView:
    """The row and its first event, in the caller's transaction; `plain`: the resolved spec as JSON has it. Raises Refusal where
    a quota is used up."""
    now = services.clock()
    place = _place(connection, services, {"priority": asked.priority, "now": now, "run_id": run_id})
    check_active_runs(connection, caller)
    _check_webhooks(connection, caller, asked.webhooks)
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
    return view_of_new(values, place)


def _place(connection: Connection, services: Services, new: dict[str, Any]) -> int:
    """The place in the queue that a new run will have; Refusal where the queue is full. Near the limit nobody else can queue a
    run from here to the end of the transaction."""
    most = services.settings.limits.queued_runs
    if not services.database.on_sqlite:
        near = connection.execute(QUEUED, new).one().queued + SPARE > most
        lock = func.pg_advisory_xact_lock if near else func.pg_advisory_xact_lock_shared
        connection.execute(select(lock(LOCK)))  # whoever goes alone waits for those that share
    queued, before = connection.execute(QUEUED, new).one()
    if queued >= most:
        raise _full(f"{queued} runs are queued, the service takes {most}")
    return int(before) + 1


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


def _check_webhooks(connection: Connection, caller: Principal, named: list[str]) -> None:
    for webhook_id in named:
        owner = connection.execute(select(Webhook.owner).where(Webhook.id == webhook_id)).scalar_one_or_none()
        if owner is None or (owner != caller.key_id and not caller.admin):
            raise Refusal(422, "webhook_unknown", f"webhooks: this key has no webhook {webhook_id}", field="webhooks")


def _full(detail: str) -> Refusal:
    return Refusal(429, "quota_exceeded", f"{detail}; wait for one to end", headers={"Retry-After": "30"})
