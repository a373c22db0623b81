"""Trackio's local database, written and read back in processes of their own, since the library fixes its folder on import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.exports.journal import WHOLE, evaluation, step, tell
from xpo_ray.reporting import RunStarted

pytest.importorskip("trackio", reason="needs xpo-ray[trackio]")
SHIP = """
import sys
from pathlib import Path
from tests.xpo_ray.exports.journal import ship
from xpo_ray.exports.trackio import TrackioExporter
from xpo_ray.spec.exports import TrackioExport

ship(Path(sys.argv[1]), int(sys.argv[2]), "trackio", lambda: TrackioExporter(TrackioExport(kind="trackio", project="tests")))
"""
READ = """
import json
from trackio.sqlite_storage import SQLiteStorage

runs = SQLiteStorage.get_runs("tests")
out = {run: [SQLiteStorage.get_logs("tests", run), SQLiteStorage.get_run_config("tests", run)] for run in runs}
print(json.dumps(out))
"""


def in_its_own_process(folder: Path, script: str, *args: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment, cwd=root)


def only_run(folder: Path) -> tuple[str, list[dict[str, Any]], dict[str, Any]]:
    """(name, logs, config) of the one run in the database."""
    ((name, (logs, config)),) = json.loads(in_its_own_process(folder, READ).stdout).items()
    return name, logs, config


def test_a_run_holds_config_metrics_and_samples_and_standard_output_stays_clean(tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    shipped = in_its_own_process(tmp_path, SHIP, tmp_path, 1)
    assert shipped.stdout == ""
    assert "Trackio project initialized" in shipped.stderr
    name, logs, config = only_run(tmp_path)
    assert name == "tiny-run_1"
    assert (config["training.batch_size"], config["tags"], config["_Group"]) == (8, ["selm", "mine"], "selm")
    losses = [(row["step"], row["train/loss"]) for row in logs if "train/loss" in row]
    assert losses == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3)), (4, 0.4)]
    assert [(r["step"], r["evaluation/reward"]) for r in logs if "evaluation/reward" in r] == [
        (0, 1.0),
        (2, 2.0),
        (4, 3.0),
    ]
    tables = [row["evaluation/samples"] for row in logs if "evaluation/samples" in row]
    assert len(tables) == 3
    assert tables[0]["_value"][0]["response"] == "<script>no</script>"


def test_the_next_attempt_goes_on_in_the_same_run(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2))
    in_its_own_process(tmp_path, SHIP, tmp_path, 1)
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(2, 0.9, replayed=True), step(3), evaluation(0))
    in_its_own_process(tmp_path, SHIP, tmp_path, 2)
    name, logs, _ = only_run(tmp_path)
    assert name == "tiny-run_1"
    losses = [(row["step"], row["train/loss"]) for row in logs if "train/loss" in row]
    assert losses == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
