"""Runs of the service on a real Ray head, disturbed where it hurts: each ends with the weights of an undisturbed run.

The service is a process of its own, as its users start it; runs are put into its queue as a submission leaves them.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.patience import Deadline
from tests.running import model_digest, tiny_world, write_spec, xpo_ray
from tests.service.invariants import faults_of, tally
from tests.service.serving import Service, kill, processes, serving
from xpo_ray.api.attempts.store import locked
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.tables import Attempt, Key, Run
from xpo_ray.api.ids import new_id
from xpo_ray.api.runs.life import move
from xpo_ray.generation.installed import installed_vllm, vllm_fault
from xpo_ray.run_states import Status
from xpo_ray.spec.loading import resolve
from xpo_ray.storage import LocalStorage, replace_file, to_json

pytestmark = [pytest.mark.ray]
CANARY = "canary-51f0c2d9"
SLOW = '''"""Vowels, taking its time; and a look at the secret, which must be there."""

import os
import time

assert os.environ["HIDDEN"].startswith("canary")


def score(prompt, responses):
    time.sleep(0.05)
    return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]
'''


class Bench:
    """The service, its database as the tests write into it, and the world that its runs work on."""

    def __init__(self, service: Service, world: Path, raw: dict[str, Any]) -> None:
        self.service, self.world, self.raw = service, world, raw
        self.database = Database(service.database_url)

    def submit(self) -> str:
        """A run in the queue."""
        run_id, now = new_id("run"), datetime.now(UTC)
        root = self.service.root(run_id)
        spec = resolve({**self.raw, "output": {"path": str(root)}}, (), self.world).model_dump(mode="json")
        replace_file(root / "run.json", to_json({"run_id": run_id, "created": time.time(), "spec": spec}))
        with self.database.write() as session:
            owner = session.scalar(select(Key.id))
            lists: dict[str, Any] = {
                "secrets": ["HIDDEN"],
                "webhooks": [],
                "progress": {},
                "notes": {},
                "retention": {},
            }
            amount = {"cpus": 1.0, "gpus": 0.0, "memory_gib": 0.0, "priority": 0}
            times = {"created_at": now, "queued_at": now}
            session.add(
                Run(id=run_id, owner=owner, name="tiny", status="queued", spec=spec, **lists, **amount, **times)
            )
        return run_id

    def run(self, run_id: str) -> Run:
        with self.database.read() as session:
            return session.get_one(Run, run_id)

    def bring(self, run_id: str, to: Status) -> None:
        """What a user's command does."""
        with self.database.write() as session:
            move(session, session.get_one(Run, run_id), to, datetime.now(UTC), why="a test wants it")

    def until(self, run_id: str, *statuses: str, steps: int = 0, within_s: float = 120) -> Run:
        deadline = Deadline(within_s)
        while True:
            run = self.run(run_id)
            if run.status in statuses and run.progress.get("steps", 0) >= steps:
                return run
            assert run.status != "failed", run.error
            assert deadline.ahead, f"{run.status} {run.progress}\n{self.service.words()}"
            time.sleep(0.1)

    def driver(self, run_id: str) -> int:
        folder = self.service.root(run_id) / "attempts" / f"{self.run(run_id).attempt:04d}"
        return int(json.loads((folder / "attempt.json").read_text())["pid"])

    def check(self, run_id: str) -> Run:
        """The run succeeds as if nothing had been."""
        run = self.until(run_id, "succeeded", within_s=200)
        assert faults_of(self.service.storage, self.service.database_url, run_id, canary=CANARY) == []
        root = self.service.root(run_id)
        assert model_digest(root / "attempts" / f"{run.attempt:04d}") == model_digest(self.world / "undisturbed")
        cost = tally(root)
        assert (cost.drawn_again, cost.twice_in_lineage) == (0, 0)
        return run


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A service with a head of its own, and an undisturbed run of the same spec in the foreground."""
    folder = tmp_path_factory.mktemp("bench")
    world, raw = folder / "world", {}
    world.mkdir()
    raw = tiny_world(world)
    raw["training"]["checkpoint_every_steps"] = None
    (world / "vowels.py").write_text(SLOW)
    done = xpo_ray("run", write_spec(world, raw), "--set", "output.path=./undisturbed", HIDDEN="canary-of-the-test")
    assert done.returncode == 0, done.stderr
    del raw["output"]
    (folder / "secrets.json").write_text(json.dumps({"HIDDEN": CANARY}))
    with serving(folder / "storage", world, "--secrets-file", str(folder / "secrets.json"), "--lease-s", "10") as made:
        yield Bench(made, world, raw)


@pytest.mark.faults
def test_an_undisturbed_run_succeeds_and_its_secret_stands_nowhere_in_ray(bench: Bench) -> None:
    run_id = bench.submit()
    run = bench.check(run_id)
    assert run.attempt == 1
    head = json.loads((bench.service.storage / "ray" / "head.json").read_text())
    logs = Path(head["folder"]).rglob("*")
    assert [p for p in logs if p.is_file() and not p.is_symlink() and CANARY.encode() in p.read_bytes()] == []
    cluster = bench.service.call("GET", "/v1/cluster").json()
    assert (cluster["alive"], cluster["reserved"]["cpus"]) == (True, 0.0)
    assert cluster["totals"]["cpus"] >= 1


def test_a_killed_driver_is_followed_by_the_next_attempt(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    os.kill(bench.driver(run_id), signal.SIGKILL)
    assert bench.check(run_id).attempt == 2


@pytest.mark.vllm
@pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}")
def test_selm_runs_with_vllm_and_every_hand_over_is_checked(bench: Bench) -> None:
    folder = bench.world / "served"
    raw = tiny_world(folder, prompts=16, hidden=128)  # heads of a size that vLLM knows
    run_id = bench.service.submit(_served(raw, folder), secrets=["HIDDEN"])
    assert bench.service.until(run_id, "succeeded", within_s=240)["attempt"] == 1
    root = bench.service.root(run_id)
    assert json.loads((root / "attempts" / "0001" / "attempt.json").read_text())["engine"] == list(_installed())
    told = bench.service.call("GET", f"/v1/runs/{run_id}/events?limit=200").json()["items"]
    served = [e["payload"] for e in told if e["type"] == "weights_served"]
    assert [(s["role"], s["version"], s["engine"]) for s in served] == [("policy", 0, "vllm"), ("policy", 1, "vllm")]
    assert all(s["canary"] == pytest.approx(s["trainer_canary"], abs=1e-4) for s in served)
    assert abs(served[0]["canary"] - served[1]["canary"]) > 1e-3, "the weights have changed"
    assert _versions(root) == {1: {0}, 2: {1}}
    assert faults_of(bench.service.storage, bench.service.database_url, run_id, canary=CANARY) == []


def _served(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The spec as it is submitted: drawn by vLLM, and without an evaluation, whose base would have an engine of its own."""
    raw["model"]["path"] = str(folder / "base")
    raw["data"]["source"]["path"] = str(folder / "train.parquet")
    del raw["data"]["evaluation"]
    raw["sampling"]["engine"] = "vllm"
    raw["training"]["learning_rate"] = 1.0e-2
    del raw["output"]
    return raw


def _installed() -> tuple[str, str]:
    found = installed_vllm()
    assert found is not None
    return found


def _versions(root: Path) -> dict[int, set[int]]:
    """Versions of the weights that drew the responses of each iteration, as they were committed."""
    storage = LocalStorage(root, 1)
    found: dict[int, set[int]] = {}
    for key in (c["key"] for c in storage.visible()["commits"]):
        if "/candidates/" in key:
            commit = storage.find(key)
            assert commit is not None
            drawn = [c for row in storage.read_table(commit)["candidates"].to_pylist() for c in row]
            seen = found.setdefault(int(key.split("/")[0].removeprefix("iteration-")), set())
            seen.update(c["version"] for c in drawn if c["origin"] in ("policy", "reference"))
    return found


@pytest.mark.faults
def test_a_paused_run_goes_on_without_a_step_done_twice(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    bench.bring(run_id, "pausing")
    done = bench.until(run_id, "paused").progress["steps"]
    bench.bring(run_id, "queued")
    run = bench.check(run_id)
    assert (run.attempt, run.progress["replayed_steps"]) == (2, 0)
    assert 1 <= done < 6


@pytest.mark.faults
def test_a_cancelled_run_ends_and_holds_nothing(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    bench.bring(run_id, "cancelling")
    bench.until(run_id, "cancelled")
    with bench.database.read() as session:
        attempt = session.get_one(Attempt, (run_id, 1))
    assert (attempt.state, attempt.ending) == ("ended", "cancelled")


@pytest.mark.faults
def test_a_run_outlives_the_api_and_is_adopted_by_the_next_one(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    bench.service.kill()
    bench.service.start()
    assert bench.check(run_id).attempt == 1


@pytest.mark.faults
def test_a_head_that_dies_is_started_again_and_the_run_with_it(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    before = json.loads((bench.service.storage / "ray" / "head.json").read_text())
    os.killpg(before["pid"], signal.SIGKILL)
    for pid in processes(before["folder"] + "/"):
        kill(pid)
    assert bench.check(run_id).attempt >= 2
    after = json.loads((bench.service.storage / "ray" / "head.json").read_text())
    assert after["pid"] != before["pid"]
    assert after["dashboard_port"] == before["dashboard_port"]


@pytest.mark.faults
def test_a_driver_that_was_superseded_stops_and_its_end_is_refused(bench: Bench) -> None:
    run_id = bench.submit()
    bench.until(run_id, "running", steps=1)
    os.kill(pid := bench.driver(run_id), signal.SIGSTOP)
    bench.until(run_id, "starting", "running", within_s=40)
    deadline = Deadline(60)
    while bench.run(run_id).attempt == 1:
        assert deadline.ahead, bench.service.words()
        time.sleep(0.2)
    os.kill(pid, signal.SIGCONT)
    run = bench.check(run_id)
    with bench.database.write() as session:
        first = locked(session, run_id, 1)
        assert first is not None
        assert first.ending == "died"
    assert run.attempt == 2
