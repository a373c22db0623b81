"""Twenty short runs submitted at once to a service whose cluster holds two: all succeed, in order, and nothing is left behind.

Runs with `make faults` and prints how long a run took, part by part.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.patience import Deadline
from tests.service.invariants import faults_of
from tests.service.leftovers import leftovers, open_files, temporary
from tests.service.serving import Service, serving
from tests.service.worlds import make_world, settings_file
from xpo_ray.run_states import FINAL

pytestmark = [pytest.mark.ray, pytest.mark.faults]
RUNS, PLACES = 20, 2


@pytest.fixture
def temporary_folder() -> Iterator[Path]:
    """A temporary folder for the service, its head and its runs alone. Its name is short: Ray puts sockets below it."""
    with tempfile.TemporaryDirectory(prefix="c", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def service(tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service that may give two CPUs away, one for each run."""
    monkeypatch.setenv("TMPDIR", str(temporary_folder))
    (tmp_path / "world").mkdir()
    settings = settings_file(tmp_path / "settings.yaml", cluster_cpus=PLACES)
    with serving(tmp_path / "storage", tmp_path / "world", "--config", str(settings)) as made:
        yield made


def test_twenty_runs_at_once_all_succeed_in_order_and_leave_nothing(service: Service, temporary_folder: Path) -> None:
    spec = make_world(service.world, prompts=16, iterations=1)
    del spec["data"]["evaluation"]
    files = open_files(service)
    began = time.monotonic()
    runs = [service.submit({**spec, "name": f"crowd-{i}", "seed": i}) for i in range(RUNS)]
    submitted = time.monotonic() - began
    ended = [_ended(service, run_id) for run_id in runs]
    print(f"\nFIGURES {RUNS} runs: submitted in {submitted:.1f} s, all ended after {time.monotonic() - began:.0f} s")
    lives = [Life.of(service, run) for run in ended]
    _print(lives)
    assert [run["status"] for run in ended] == ["succeeded"] * RUNS
    assert [run["attempt"] for run in ended] == [1] * RUNS
    assert [life.started for life in lives] == sorted(life.started for life in lives)
    assert _most_at_once(lives) == PLACES
    assert [f for run_id in runs for f in faults_of(service.storage, service.database_url, run_id)] == []
    assert _soon_nothing(service) == []
    assert temporary(temporary_folder, service) == []
    assert open_files(service) <= files + 10


class Life:
    """When what happened to a run, in seconds since the epoch."""

    def __init__(self, marks: dict[str, float]) -> None:
        self.marks = marks

    @classmethod
    def of(cls, service: Service, run: dict[str, Any]) -> "Life":
        marks = {"queued": _seconds(run["created_at"]), "ended": _seconds(run["finished_at"])}
        attempt = service.call("GET", f"/v1/runs/{run['id']}/attempts").json()[0]
        marks |= {"started": _seconds(attempt["started_at"]), "claimed": _seconds(attempt["claimed_at"])}
        events = service.call("GET", f"/v1/runs/{run['id']}/events?limit=200").json()["items"]
        for event in reversed(events):
            marks[event["type"]] = _seconds(event["at"])
        return cls(marks)

    @property
    def started(self) -> float:
        return self.marks["started"]

    @property
    def ended(self) -> float:
        return self.marks["ended"]

    def parts(self) -> dict[str, float]:
        """Seconds from one mark to the next."""
        names = ["started", "claimed", "run_started", "iteration_started", "shard_done", "step_done", "ended"]
        return {f"{a} → {b}": self.marks[b] - self.marks[a] for a, b in pairwise(names)}


def _ended(service: Service, run_id: str) -> dict[str, Any]:
    deadline = Deadline(600)
    while (run := service.run(run_id))["status"] not in FINAL:
        assert deadline.ahead, f"{run}\n{service.words()}"
        time.sleep(0.5)
    return run


def _soon_nothing(service: Service, within_s: float = 20) -> list[str]:
    """What is left behind after the last run's processes had a moment to end."""
    deadline = Deadline(within_s)
    while (left := leftovers(service)) and deadline.ahead:
        time.sleep(0.5)
    return left


def _most_at_once(lives: list[Life]) -> int:
    """The most runs that held the cluster at a time."""
    moves = sorted([(life.started, 1) for life in lives] + [(life.ended, -1) for life in lives])
    count = most = 0
    for _, change in moves:
        count += change
        most = max(most, count)
    return most


def _print(lives: list[Life]) -> None:
    whole = [life.ended - life.started for life in lives]
    print(f"FIGURES a run, start to end: median {median(whole):.1f} s, {min(whole):.1f} to {max(whole):.1f}")
    for name in lives[0].parts():
        print(f"FIGURES   {name}: median {median(life.parts()[name] for life in lives):.2f} s")


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
