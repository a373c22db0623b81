"""Rows of runs, put into the database as a submission would leave them."""

from typing import Any

from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.services import Services

SPEC: dict[str, Any] = {
    "name": "tiny",
    "model": {"path": "base"},
    "data": {"source": {"kind": "files", "path": "train.jsonl"}},
    "algorithm": {"kind": "dpo"},
    "resources": {},
    "output": {"path": "out"},
}


def add_run(services: Services, run_id: str, owner: str, **values: Any) -> Run:
    """A run; what is not given is as after a submission."""
    now = services.clock()
    given: dict[str, Any] = {
        "name": "tiny",
        "status": "running",
        "priority": 0,
        "notes": {},
        "cpus": 1.0,
        "gpus": 0.0,
        "memory_gib": 0.0,
        "retention": {},
        "spec": SPEC,
        "secrets": [],
        "webhooks": [],
        "progress": {},
        "created_at": now,
        "queued_at": now,
    }
    run = Run(id=run_id, owner=owner, **{**given, **values})
    with services.database.write() as session:
        session.add(run)
    return run


def add_attempt(services: Services, run_id: str, number: int) -> None:
    """An attempt that has ended."""
    row = Attempt(
        run_id=run_id,
        number=number,
        state="ended",
        ray_job=f"{run_id}-{number}",
        ticket_sha256="0" * 64,
        started_at=services.clock(),
    )
    with services.database.write() as session:
        session.add(row)
