"""What the service finds after it was killed, and frees: deletions half done, checkpoints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.api.conftest import Headers
from tests.api.rows import add_run
from xpo_ray.api.database.tables import Evaluation, Event, Key, Run
from xpo_ray.api.runs import retention
from xpo_ray.api.services import Services
from xpo_ray.api.upkeep import sweep
from xpo_ray.storage import Checkpoint, to_json, write_once

RUN = "run_swept"


@pytest.fixture
def owner(services: Services, admin: Headers) -> str:
    assert admin
    with services.database.read() as session:
        return session.scalars(select(Key.id)).one()


def folder(services: Services, run_id: str) -> Path:
    """A run's folder."""
    made = services.run_folder(run_id)
    made.mkdir(parents=True)
    return made


def test_a_deletion_that_was_cut_off_is_finished(services: Services, owner: str) -> None:
    left = folder(services, RUN)
    add_run(services, RUN, owner, status="cancelled", deleting=True)
    sweep(services)
    assert not left.exists()
    with services.database.read() as session:
        assert session.get(Run, RUN) is None


def checkpoints(services: Services, count: int) -> list[Path]:
    """Checkpoints at the borders of so many iterations, as an attempt publishes them; with the folders of their files."""
    root = services.run_folder(RUN)
    attempt = root / "attempts" / "0001"
    (attempt / "checkpoints").mkdir(parents=True)
    write_once(attempt / "adopted.json", to_json({"commits": [], "checkpoints": []}))
    made = []
    for t in range(1, count + 1):
        path = f"attempts/0001/checkpoints/c{t}.0000"
        values: dict[str, Any] = {"name": f"c{t}", "path": path, "iteration": t, "step": 0, "total_steps": t}
        record = Checkpoint(**values, parent=None, canary=0.0, ledger=(), files={"model/weights": (100, "0" * 64)})
        write_once(attempt / "checkpoints" / f"c{t}.json", to_json(asdict(record)))
        (root / path / "model").mkdir(parents=True)
        made.append(root / path)
    return made


def test_checkpoints_beyond_the_last_best_selected_and_forked_are_freed_and_told(
    services: Services, owner: str
) -> None:
    paths = checkpoints(services, 6)
    keep = {"retention": {"last": 1, "best": True}, "result": {"selected_iteration": 4}}
    add_run(services, RUN, owner, status="succeeded", finished_at=services.clock(), **keep)
    add_run(services, "run_fork", owner, status="queued", forked_run=RUN, forked_iteration=3)
    with services.database.write() as session:
        for t, reward in enumerate([0.1, 0.9, 0.2, 0.3, 0.4, 0.5], start=1):
            session.add(Evaluation(run_id=RUN, iteration=t, metrics={"reward": reward}, at=services.clock()))
    sweep(services)
    assert [p.exists() for p in paths] == [False, True, True, True, False, True]
    assert retention.free(services, RUN) == []
    with services.database.read() as session:
        (told,) = session.scalars(select(Event).where(Event.run_id == RUN, Event.type == "checkpoints_freed"))
        assert retention.freed(session, RUN) == {1, 5}
    assert told.payload == {"iterations": [1, 5], "bytes": 200}


@pytest.mark.parametrize(("status", "last"), [("running", 0), ("paused", 0), ("succeeded", None)])
def test_nothing_is_freed_of_a_run_that_goes_on_or_keeps_all(
    services: Services, owner: str, status: str, last: int | None
) -> None:
    paths = checkpoints(services, 2)
    add_run(services, RUN, owner, status=status, retention={"last": last, "best": False})
    assert retention.free(services, RUN) == []
    assert all(p.exists() for p in paths)


def test_files_of_a_decision_that_was_told_before_a_kill_go_at_the_next_sweep(services: Services, owner: str) -> None:
    paths = checkpoints(services, 2)
    add_run(services, RUN, owner, status="failed", finished_at=services.clock(), retention={"last": 1, "best": False})
    assert retention.free(services, RUN) == [1]
    paths[0].mkdir()
    sweep(services)
    assert [p.exists() for p in paths] == [False, True]
