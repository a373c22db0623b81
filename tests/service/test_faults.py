"""The fault suite of the service: kill, freeze, fill up or cut off one part, and look whether anything was lost or done twice.

Runs with `make faults` and prints its figures; tests/api/cluster has the short form. Every run must end with the weights of an
undisturbed one, bit for bit.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.running import model_digest, tiny_world, write_spec, xpo_ray
from tests.service.invariants import faults_of, tally
from tests.service.serving import Service, driver_pid, kill, processes, serving

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(600)]
CANARY = "canary-7f3a9c21e5"
SLOW = '''"""Vowels, taking its time: so that there is a moment to disturb."""

import time


def score(prompt, responses):
    time.sleep(0.15)
    return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]
'''


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, data and judge; and the result of a run in the foreground that nothing happened to."""
    folder = tmp_path_factory.mktemp("world")
    spec = tiny_world(folder)
    (folder / "vowels.py").write_text(SLOW)
    done = xpo_ray("run", write_spec(folder, spec), "--set", "output.path=./undisturbed")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def spec(world: Path) -> dict[str, Any]:
    """What is submitted: the same, with absolute paths and without an output."""
    raw: dict[str, Any] = tiny_world(world)
    (world / "vowels.py").write_text(SLOW)
    raw["model"] = {"path": str(world / "base")}
    raw["data"]["source"]["path"] = str(world / "train.parquet")
    raw["data"]["evaluation"]["path"] = str(world / "test.parquet")
    del raw["output"]
    return raw


@pytest.fixture
def service(world: Path, tmp_path: Path) -> Iterator[Service]:
    """A service with a head of its own."""
    (tmp_path / "secrets.json").write_text(f'{{"HIDDEN": "{CANARY}"}}')
    with serving(
        tmp_path / "storage", world, "--secrets-file", str(tmp_path / "secrets.json"), "--lease-s", "10"
    ) as made:
        yield made


def check(service: Service, run_id: str, world: Path) -> None:
    """The run succeeded, nothing is wrong with it, and its model is that of the undisturbed run."""
    run = service.until(run_id, "succeeded", within_s=300)
    assert faults_of(service.storage, service.database_url, run_id, canary=CANARY) == []
    root = service.root(run_id)
    assert model_digest(root / "attempts" / f"{run['attempt']:04d}") == model_digest(world / "undisturbed")
    cost = tally(root)
    print(f"\nFIGURES {cost}")
    assert (cost.drawn_again, cost.twice_in_lineage) == (0, 0)


def started(service: Service, spec: dict[str, Any], steps: int = 1) -> str:
    """A run that has done its first steps."""
    run_id = service.submit(spec, secrets=["HIDDEN"])
    deadline = time.monotonic() + 120
    while service.run(run_id)["progress"]["steps"] < steps:
        assert time.monotonic() < deadline, service.words()
        time.sleep(0.2)
    return run_id


def of_run(title: str) -> Callable[[Service, str], None]:
    """Kills one process with such a title."""

    def strike(_service: Service, _run_id: str) -> None:
        found = processes(title)
        assert found, f"no process {title}"
        kill(found[0])

    return strike


def the_driver(service: Service, run_id: str) -> None:
    kill(driver_pid(service, run_id))


def the_head(service: Service, _run_id: str) -> None:
    """The process that leads the head's session, and its Ray with it; no other Ray on this machine."""
    head = json.loads((service.storage / "ray" / "head.json").read_text())
    os.killpg(head["pid"], signal.SIGKILL)
    for pid in processes(head["folder"] + "/"):
        kill(pid)


def the_api(service: Service, _run_id: str) -> None:
    service.kill()
    time.sleep(1.0)
    service.start()


def the_api_for_long(service: Service, _run_id: str) -> None:
    service.kill()
    time.sleep(60.0)
    service.start()


STRIKES: dict[str, Callable[[Service, str], None]] = {
    "driver": the_driver,
    "engine": of_run("ray::PolicyActor"),
    "judge": of_run("ray::JudgeActor"),
    "trainer": of_run("ray::TrainerActor"),
    "supervisor": of_run("ray::JobSupervisor"),
    "head": the_head,
    "api": the_api,
    "api for a minute": the_api_for_long,
}


@pytest.mark.parametrize("victim", STRIKES)
def test_a_kill_of_any_part_loses_nothing(service: Service, spec: dict[str, Any], world: Path, victim: str) -> None:
    run_id = started(service, spec)
    STRIKES[victim](service, run_id)
    check(service, run_id, world)
