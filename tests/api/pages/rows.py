"""Runs as the service has them, hostile texts included: rows in its database, written as its own code writes them."""

from typing import Any

from sqlalchemy import select

from tests.api.rows import add_attempt, add_run
from xpo_ray.api.database.tables import Evaluation, Key, Run, Stage, Step
from xpo_ray.api.events.store import append
from xpo_ray.api.runs.life import move
from xpo_ray.api.services import Services
from xpo_ray.run_states import Status
from xpo_ray.wire.events import Level

HOSTILE = '<img src=x onerror="window.hit=1"></script><script>window.hit=2</script> \u202eevil\u202c zero\u200bwidth'
SPEC = {"name": "by-hand", "algorithm": {"kind": "selm", "beta": 0.1}, "seed": 0, "model": {"path": HOSTILE}}
STEPS = 12


def key_id(services: Services, name: str) -> str:
    with services.database.read() as session:
        found = session.scalar(select(Key.id).where(Key.name == name))
    assert found is not None
    return found


def new_run(services: Services, run_id: str, owner: str = "admin", **values: Any) -> None:
    """A run that runs, one attempt begun."""
    begun = {"started_at": services.clock(), "attempt": 1} if values.get("status") != "queued" else {}
    add_run(services, run_id, key_id(services, owner), **{"spec": SPEC, "name": run_id, **begun, **values})
    if begun:
        add_attempt(services, run_id, 1)
    tell(services, run_id, "run_queued", {})


def measured_run(services: Services, run_id: str, **values: Any) -> None:
    """A run after its first iteration: twelve steps, two evaluations, a warning."""
    progress = {"iteration": 1, "iterations": 3, "steps": STEPS, "total_steps": 36, "prompts": 192}
    new_run(services, run_id, **{"progress": progress, **values})
    with services.database.write() as session:
        for n in range(1, STEPS + 1):
            metrics = {
                "loss": 0.7 - n / 100,
                "loss/preference": 0.69,
                "rewards/accuracies": 0.5 + n / 100,
                "grad_norm": 1.0,
            }
            made = {"attempt": 1, "iteration": 1, "step": n, "seconds": 0.1, "at": services.clock()}
            session.add(Step(run_id=run_id, total_step=n, metrics=metrics, **made))
        for t in (0, 1):
            metrics = {
                "reward": 1.0 + t,
                "reward/low": 0.5 + t,
                "reward/high": 1.5 + t,
                "win_rate/base": 0.6 if t else None,
            }
            session.add(Evaluation(run_id=run_id, iteration=t, metrics=metrics, at=services.clock()))
        session.add(Stage(run_id=run_id, iteration=1, stage="candidates", shards=4, prompts=64, seconds=2.0, counts={}))
    tell(services, run_id, "warned", {"code": "judge_slow", "message": HOSTILE}, "warning")


def tell(services: Services, run_id: str, kind: str, payload: dict[str, Any], level: Level = "info") -> None:
    """An event of a run, heard by whoever follows it."""
    with services.database.write() as session:
        append(session, run_id, kind, payload, services.clock(), level=level)
    services.changes.tell(run_id)


def step_done(services: Services, run_id: str, n: int, loss: float) -> None:
    payload = {
        "iteration": 2,
        "step": n - STEPS,
        "total_step": n,
        "metrics": {"loss": loss},
        "seconds": 0.1,
        "replayed": False,
    }
    tell(services, run_id, "step_done", payload)


def bring(services: Services, run_id: str, status: Status, **values: Any) -> None:
    """Move a run along the graph of its states."""
    with services.database.write() as session:
        run = session.get(Run, run_id)
        assert run is not None
        move(session, run, status, services.clock(), why="a test", **values)
    services.changes.tell(run_id)
