"""A trainer group of two workers on a real Ray: in its seat, and in whole runs; what becomes of killed ranks, and of a group
that cannot be placed."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ray.util.placement_group import placement_group_table

from tests.actors.conftest import Heard, Ran, World
from tests.running import model_digest, tiny_world, write_spec, xpo_ray
from tests.xpo_ray.test_training import MIXED, order, shard, whole
from xpo_ray.actors.places import Places
from xpo_ray.actors.trainer_seat import TrainerDied, TrainerSeat
from xpo_ray.errors import PlacementFailed
from xpo_ray.profile import Stopwatch
from xpo_ray.reporting import ActorReplaced, RunFinished, StepDone
from xpo_ray.spec.loading import load_spec
from xpo_ray.spec.run import RunSpec
from xpo_ray.steps import StepResult
from xpo_ray.storage import Checkpoint, LocalStorage, lineage
from xpo_ray.training import Trainer

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

TWO = "resources.trainer_workers=2"


def spec_of(world: World, *overrides: str) -> RunSpec:
    return load_spec(write_spec(world.folder, world.raw, "group.yaml"), [TWO, *overrides])


def seat_of(spec: RunSpec, root: Path, heard: Heard) -> TrainerSeat:
    """A seat whose storage is empty."""
    folder = root / "attempts" / "0001"
    folder.mkdir(parents=True)
    (folder / "adopted.json").write_text('{"commits": [], "checkpoints": []}')
    prefix = f"seat_{root.name}"
    return TrainerSeat(spec, LocalStorage(root, 1), heard, prefix, Stopwatch(), Places(prefix, spec))


async def steps(seat: TrainerSeat, table: pa.Table, *numbers: int) -> list[float]:
    """The losses of some steps."""
    done: list[StepResult] = [await seat.call("step", order(whole(table, n)), table) for n in numbers]
    return [result.metrics["loss"] for result in done]


DRAFT = Checkpoint("iteration-0000-step-000002", "", 0, 2, 2, None, 0.0, (), {})


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # nor does anybody write to it
def test_killed_ranks_bring_new_incarnations_and_a_checkpoint_that_one_worker_reads(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPO_CRASH_AT", "step.within:2,checkpoint.before_confirm:1")
    monkeypatch.setenv("XPO_CRASH_MARK", str(tmp_path / "mark"))
    spec, heard = spec_of(world, "resources.trainer_worker_resources={CPU: 0.5}"), Heard()
    storage, table = LocalStorage(tmp_path / "run", 1), shard(MIXED, world.folder / "base")
    seat = seat_of(spec, tmp_path / "run", heard)

    async def scene() -> tuple[list[float], Checkpoint, dict[str, torch.Tensor]]:
        seat.launch(None)
        assert await seat.at(None) is None
        await steps(seat, table, 1)
        with pytest.raises(TrainerDied):
            await steps(seat, table, 2)
        await seat.at(None)
        await steps(seat, table, 1, 2)
        with pytest.raises(TrainerDied):
            await seat.call("publish", DRAFT, True)
        assert storage.checkpoints() == []
        await seat.at(None)
        await steps(seat, table, 1, 2)
        published = await seat.call("publish", DRAFT, True)
        losses = await steps(seat, table, 3)
        return losses, published, await (await seat.call_for_ref("weights"))

    try:
        losses, published, weights = asyncio.run(scene())
    finally:
        seat.stop()
        seat.places.remove()
    assert [e.role for e in heard.of(ActorReplaced)] == ["trainer", "trainer"]
    assert [e.restarts for e in heard.of(ActorReplaced)] == [1, 1]  # between them a step further than any before
    assert {state["state"] for state in placement_group_table().values()} == {"REMOVED"}
    one = Trainer(spec.training, str(storage.folder(published) / "model"), "float32", origin=spec.model)
    one.restore_state(storage.folder(published))
    assert [one.step(order(whole(table, 3)), [table]).metrics["loss"]] == pytest.approx(losses, rel=1e-5)
    for name, tensor in one.weights().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-6, rtol=0.0)


def test_a_group_that_cannot_be_placed_says_what_is_lacking(world: World, tmp_path: Path) -> None:
    asks = ("resources.trainer_worker_resources={CPU: 1000}", "resources.placement_timeout_s=1.5")
    seat = seat_of(spec_of(world, *asks), tmp_path / "run", Heard())

    async def scene() -> Any:
        seat.launch(None)
        return await seat.at(None)

    with pytest.raises(
        PlacementFailed, match=r"each trainer worker 1000 CPU.*CPU: 2000 asked, .* free of .* Free what is"
    ):
        asyncio.run(scene())
    seat.stop()


@pytest.fixture(scope="module")
def pair(world: World) -> Ran:
    """An undisturbed run with two workers."""
    return world.run("pair", TWO)


def losses(ran: Ran) -> list[float]:
    return [s.metrics["loss"] for s in ran.heard.of(StepDone)]


@pytest.mark.long
def test_a_run_with_two_workers_learns_as_one_with_one(selm: Ran, pair: Ran) -> None:
    assert losses(pair) == pytest.approx(losses(selm), rel=1e-4, abs=1e-5)
    for one, two in zip(selm.heard.of(StepDone), pair.heard.of(StepDone), strict=True):
        assert two.metrics.keys() == one.metrics.keys()
    assert not pair.heard.of(ActorReplaced)
    assert json.loads((pair.result.root / "result.json").read_text())["tier"] == "exact"


@pytest.mark.faults
def test_a_run_that_loses_ranks_ends_bit_equal(
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


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_killed_run_goes_on_with_another_number_of_workers(
    selm: Ran, tmp_path: Path, before: int, after: int
) -> None:
    spec = write_spec(tmp_path, tiny_world(tmp_path))
    killing = {"XPO_CRASH_AT": "step.after_ledger:5", "XPO_CRASH_MARK": str(tmp_path / "mark")}
    killed = xpo_ray("run", spec, "--set", f"resources.trainer_workers={before}", **killing)
    assert killed.returncode == -signal.SIGKILL
    resumed = xpo_ray("run", spec, "--resume", "--set", f"resources.trainer_workers={after}", "--json")
    assert resumed.returncode == 0, resumed.stderr
    result = json.loads(resumed.stdout.splitlines()[-1])
    assert (result["tier"], result["attempts"]) == ("replay", 2)
    made = pq.read_table(tmp_path / "out" / "metrics.parquet").to_pydict()
    assert made["total_step"] == [1, 2, 3, 4, 5, 6]
    assert made["loss"] == pytest.approx(losses(selm), rel=1e-4, abs=1e-5)
