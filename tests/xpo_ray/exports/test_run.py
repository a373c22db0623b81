"""A true run with trackers, killed and resumed: they hold what the run has measured, and one that fails stops nothing."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.running import events, tiny_world, write_spec, xpo_ray
from tests.xpo_ray.exports.test_tensorboard import read_back

pytestmark = [pytest.mark.ray, pytest.mark.faults]  # a run, killed and resumed
pytest.importorskip("tensorboard", reason="needs xpo-ray[tensorboard]")
pytest.importorskip("trackio", reason="needs xpo-ray[trackio]")
pytest.importorskip("wandb", reason="needs xpo-ray[wandb]")
KINDS = ("tensorboard", "trackio", "wandb")


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of a run that was killed behind its fifth step, and the lines that its second attempt printed.

    Weights & Biases has no key, so that its export fails.
    """
    folder = tmp_path_factory.mktemp("exported")
    spec = write_spec(folder, {**tiny_world(folder), "exports": [{"kind": kind} for kind in KINDS]})
    environment = {
        "TRACKIO_DIR": str(folder / "trackio"),
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "",
        "HOME": str(folder),
    }
    crash = {"XPO_CRASH_AT": "step.after_ledger:5", "XPO_CRASH_MARK": str(folder / "mark")}
    killed = xpo_ray("run", spec, **environment, **crash)
    assert killed.returncode == -signal.SIGKILL
    done = xpo_ray("run", spec, "--resume", "--json", **environment)
    assert done.returncode == 0, done.stderr
    return folder / "out", [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_and_resumed_run_is_one_curve_that_agrees_with_its_journals(
    resumed: tuple[Path, list[dict[str, Any]]],
) -> None:
    root, _ = resumed
    read = read_back(root)
    first: dict[int, float] = {}
    for event in events(root, "StepDone"):
        first.setdefault(event["total_step"], event["metrics"]["loss"])
    assert sorted(first) == [1, 2, 3, 4, 5, 6]
    assert {s.step: s.value for s in read.Scalars("train/loss")} == pytest.approx(first)
    assert [s.step for s in read.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert any(event["replayed"] for event in events(root, "StepDone"))
    assert [(s.step, s.value) for s in read.Scalars("evaluation/iteration")] == [(0, 0.0), (3, 1.0), (6, 2.0)]
    assert read.Scalars("draw/length")[0].value > 0
    assert [t.step for t in read.Tensors("evaluation/samples/text_summary")] == [0, 3, 6]


def test_every_tracker_that_works_has_been_told_everything(resumed: tuple[Path, list[dict[str, Any]]]) -> None:
    root, _ = resumed
    for kind in ("tensorboard", "trackio"):
        told = json.loads((root / f"exports/{kind}.json").read_text())
        assert told == {"step": 6, "evaluated": [0, 1, 2]}
    assert (root.parent / "trackio/xpo_ray.db").exists()


def test_a_tracker_that_fails_is_one_warning_of_each_attempt(resumed: tuple[Path, list[dict[str, Any]]]) -> None:
    root, printed = resumed
    warned = [e for e in events(root, "Warned") if e["code"] == "export_failed"]
    assert [e["attempt"] for e in warned] == [1, 2]
    assert all("wandb is off" in e["message"] and "WANDB_API_KEY" in e["message"] for e in warned)
    assert not (root / "exports/wandb.json").exists()
    assert printed[-1]["type"] == "Result"
