"""One tiny run made for real, once for all processes of the tests, and a copy of it in the service's storage for each test."""

import fcntl
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.rows import add_attempt, add_run
from tests.running import events, tiny_world, write_spec, xpo_ray
from xpo_ray.api.database.tables import Evaluation, Key
from xpo_ray.api.services import Services

RUN = "run_real"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run as the service keeps it."""

    id: str
    root: Path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished SELM run of two iterations; no test writes into it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir()
            done = xpo_ray("run", write_spec(folder, tiny_world(folder, prompts=24)))
            assert done.returncode == 0, done.stderr[-2000:]
            (folder / "made").touch()
    return folder / "out"


@pytest.fixture
def finished(services: Services, admin: dict[str, str], run_folder: Path) -> FinishedRun:
    """The run in the storage and the database of the service."""
    assert admin
    with services.database.read() as session:
        owner = session.query(Key).first()
    assert owner is not None
    root = services.run_folder(RUN)
    shutil.copytree(run_folder, root)
    add_run(services, RUN, owner=owner.id, status="succeeded", attempt=1, result={"selected_iteration": 2})
    add_attempt(services, RUN, 1)
    with services.database.write() as session:
        for event in events(root, "EvaluationDone"):
            row = Evaluation(run_id=RUN, iteration=event["iteration"], metrics=event["metrics"], at=services.clock())
            session.merge(row)
    return FinishedRun(RUN, root)
