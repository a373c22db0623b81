"""Whole runs with a trainer group of two workers on a real Ray: what they learn, and what becomes of a killed rank."""

import json
from pathlib import Path

import pytest

from tests.actors.conftest import Ran, World
from tests.running import model_digest
from xpo_ray.errors import PlacementFailed
from xpo_ray.reporting import ActorReplaced, RunFinished, StepDone
from xpo_ray.storage import LocalStorage, lineage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

TWO = "resources.trainer_workers=2"


@pytest.fixture(scope="module")
def pair(world: World) -> Ran:
    """An undisturbed run with two workers."""
    return world.run("pair", TWO)


def losses(ran: Ran) -> list[float]:
    return [s.metrics["loss"] for s in ran.heard.of(StepDone)]


def test_two_workers_train_as_one_does(selm: Ran, pair: Ran) -> None:
    assert losses(pair) == pytest.approx(losses(selm), rel=1e-4, abs=1e-5)
    for one, two in zip(selm.heard.of(StepDone), pair.heard.of(StepDone), strict=True):
        assert two.metrics.keys() == one.metrics.keys()
    assert not pair.heard.of(ActorReplaced)
    assert json.loads((pair.result.root / "result.json").read_text())["tier"] == "exact"


def test_killed_ranks_bring_new_incarnations_and_the_run_ends_bit_equal(
    world: World, pair: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPO_CRASH_AT", "step.within:2,checkpoint.before_confirm:1")
    monkeypatch.setenv("XPO_CRASH_MARK", str(tmp_path / "mark"))
    ran = world.run("pair-disturbed", TWO)
    assert sorted(p.name for p in tmp_path.glob("mark.*")) == ["mark.checkpoint.before_confirm", "mark.step.within"]
    assert [e.role for e in ran.heard.of(ActorReplaced)] == ["trainer", "trainer"]
    assert model_digest(ran.result.root) == model_digest(pair.result.root)
    checkpoints = LocalStorage(ran.result.root, 1).checkpoints()
    steps = [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger]
    assert steps == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert ran.heard.of(RunFinished)[-1].replayed_steps > 0


def test_a_group_that_cannot_be_placed_stops_the_run_and_says_what_is_lacking(world: World) -> None:
    asks = ("resources.trainer_worker_resources={CPU: 1000}", "resources.placement_timeout_s=1.5")
    with pytest.raises(PlacementFailed, match=r"2 workers with 1000 CPU each.*2000 asked, .* free of .*trainer_workers"):
        world.run("unplaced", TWO, *asks)
