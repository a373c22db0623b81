"""Places of actors on a Ray with two GPUs that are only counted: who lies in which bundle and sees which GPU, that a replaced
actor goes back to its own, and that nothing stays reserved. Whole runs in both layouts end as one without GPUs."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group_table

from tests.actors.conftest import Heard, Ran, World
from tests.patience import Deadline
from tests.running import model_digest, write_spec
from xpo_ray.actors.cast import Cast
from xpo_ray.actors.driver import run_foreground
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.places import Places
from xpo_ray.actors.policy import PolicyActor
from xpo_ray.actors.pools import Pool
from xpo_ray.actors.trainer import TrainerActor
from xpo_ray.actors.trainer_rank import TrainerRank
from xpo_ray.actors.watchdog import Deadlines
from xpo_ray.errors import PlacementFailed, SpecError
from xpo_ray.preparation import prepare
from xpo_ray.reporting import ActorReplaced, StepDone
from xpo_ray.spec.loading import load_spec
from xpo_ray.spec.run import RunSpec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

Seen = tuple[str, dict[str, float]]
"""GPUs that a process sees, and what of them Ray has given it."""


def seen() -> Seen:
    resources = ray.get_runtime_context().get_assigned_resources()
    return os.environ["CUDA_VISIBLE_DEVICES"], {k: v for k, v in resources.items() if k in ("CPU", "GPU")}


class Witness:
    """Says what it sees."""

    def tell(self) -> tuple[None, Seen]:
        return None, seen()


def spec_of(world: World, *overrides: str) -> RunSpec:
    path = write_spec(world.folder, world.raw, "places.yaml")
    return load_spec(path, ["resources.gpus=null", *overrides])


def free_gpus(expected: float, within_s: float = 20.0) -> float:
    """Free GPUs, as soon as they are as many as expected."""
    deadline = Deadline(within_s)
    while (free := ray.available_resources().get("GPU", 0.0)) != expected and deadline.ahead:
        time.sleep(0.05)
    return free


def held() -> list[str]:
    return [state["state"] for state in placement_group_table().values() if state["state"] != "REMOVED"]


@pytest.mark.parametrize(
    ("name", "overrides", "roles"),
    [
        (
            "dedicated",
            (),
            {"trainer": [(1, {"GPU": 1.0})], "policy": [(0, {"GPU": 0.5})], "base": [(0, {"GPU": 0.5})]},
        ),
        pytest.param(
            "colocated",
            (
                "resources.layout=colocated",
                "resources.engine_replicas=2",
                "resources.trainer_worker_resources={CPU: 0.5}",
            ),
            {
                "trainer": [(0, {"GPU": 0.3333, "CPU": 0.5}), (1, {"GPU": 0.3333, "CPU": 0.5})],
                "policy": [(0, {"GPU": 0.3333}), (1, {"GPU": 0.3333})],
                "base": [(0, {"GPU": 0.3333})],
            },
            marks=pytest.mark.long,
        ),
    ],
)
def test_processes_of_a_bundle_see_one_gpu_and_a_replaced_one_sees_it_again(
    world: World, name: str, overrides: tuple[str, ...], roles: dict[str, list[tuple[int, dict[str, float]]]]
) -> None:
    places, heard = Places(name, spec_of(world, *overrides)), Heard()

    def pool(role: str, size: int) -> Pool:
        def start(named: str, index: int) -> Any:
            return start_actor(Witness, f"{name}/{named}", asks=places.of(role, index))

        made = Pool(role, size, start, heard, 1, Deadlines(60.0))
        made.launch()
        return made

    async def scene() -> tuple[dict[str, list[Seen]], list[Seen], list[Seen]]:
        await places.ready()
        pools = {role: pool(role, len(processes)) for role, processes in roles.items()}
        clerk = pool("clerk", 1)
        told = {role: await each.each("tell") for role, each in pools.items()}
        first = pools["policy"]._slots[0]
        ray.kill(first.actor.handle)
        again = await pools["policy"].each("tell")
        while not heard.of(ActorReplaced):  # a process that is being killed may still answer
            await asyncio.sleep(0.05)
            again = await pools["policy"].each("tell")
        unplaced = await clerk.each("tell")
        for each in (*pools.values(), clerk) * 2:  # twice, as when a run pauses
            each.stop()
        return told, again, unplaced

    try:
        told, again, unplaced = asyncio.run(scene())
        of_bundle = {bundle: told[role][i][0] for role, of in roles.items() for i, (bundle, _) in enumerate(of)}
        assert sorted(of_bundle.values()) == ["0", "1"]
        for role, processes in roles.items():
            assert told[role] == [(of_bundle[bundle], asked) for bundle, asked in processes]
        assert again == told["policy"]
        assert [e.role for e in heard.of(ActorReplaced)] == ["policy/0"]
        assert unplaced == [("", {})]
    finally:
        places.remove()
    assert (free_gpus(2.0), held()) == (2.0, [])


def test_a_run_that_waits_for_gpus_says_who_wants_them_and_gives_up_its_place(world: World) -> None:
    first = Places("first", spec_of(world))
    second = Places("second", spec_of(world, "resources.placement_timeout_s=1.0"))
    try:
        with pytest.raises(
            PlacementFailed,
            match=r"within 1 s .*: trainer 1 × 1 GPU; policy 1 × 0.5 GPU; base 1 × 0.5 GPU. The cluster's 1 node has "
            r"GPU: 2 asked, 0 free of 2. Free what is in use",
        ):
            asyncio.run(second.ready())
    finally:
        first.remove()
    assert (free_gpus(2.0), held()) == (2.0, [])


def test_a_run_that_asks_for_more_gpus_than_there_are_is_refused_and_writes_nothing(world: World) -> None:
    spec = spec_of(world, "resources.trainer_workers=4", "output.path=./refused")
    told = "asks for 5 GPUs and may take 2: trainer 4 × 1; policy, base at least 1 together. Lower resources.trainer_workers;"
    with pytest.raises(SpecError, match=told):
        run_foreground(prepare(spec, world.folder), resume=False, reporter=Heard())
    assert not (world.folder / "refused").exists()


def note(spec: RunSpec, role: str) -> None:
    """Beside the run's folder: what this process sees."""
    folder = Path(spec.output.path).with_suffix(".seen")
    folder.mkdir(exist_ok=True)
    (folder / f"{role}-{os.getpid()}.json").write_text(json.dumps([role, *seen()]))


class SeeingPolicy(PolicyActor):
    """Notes what it sees; of a run one dies at its first draw."""

    def __init__(self, spec: RunSpec, threads: int) -> None:
        note(spec, "engine")
        super().__init__(spec, threads)

    def draw(self, *args: Any) -> Any:
        mark = Path(self.policy.spec.output.path).with_suffix(".seen") / "killed"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().draw(*args)


class SeeingTrainer(TrainerActor):
    def __init__(self, spec: RunSpec, *args: Any) -> None:
        note(spec, "trainer")
        super().__init__(spec, *args)


class SeeingRank(TrainerRank):
    def __init__(self, spec: RunSpec, *args: Any) -> None:
        note(spec, "trainer")
        super().__init__(spec, *args)


@pytest.mark.long
@pytest.mark.parametrize(
    ("layout", "gpus", "engines", "trainers"),
    [
        ("dedicated", 1, {("0", 0.3333)}, [("0", 0.3333)] * 2),
        ("dedicated", 2, {("0", 0.5)}, [("1", 1.0)] * 2),
        ("colocated", 1, {("0", 0.3333)}, [("0", 0.3333)] * 2),
        ("colocated", 2, {("0", 0.5), ("1", 0.5)}, [("0", 0.5), ("1", 0.5)] * 2),
    ],
)
def test_a_run_on_gpus_ends_as_one_without_and_holds_nothing_any_longer(
    selm: Ran,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    gpus: int,
    engines: set[tuple[str, float]],
    trainers: list[tuple[str, float]],
) -> None:
    name = f"{layout}-{gpus}"
    monkeypatch.setenv("XPO_CRASH_AT", "step.within:2" if layout == "colocated" and gpus == 2 else "step.after_step:2")
    monkeypatch.setenv("XPO_CRASH_MARK", str(world.folder / f"{name}.mark"))
    spec = spec_of(
        world, f"name={name}", f"output.path=./{name}", f"resources.gpus={gpus}", f"resources.layout={layout}"
    )
    heard = Heard()
    cast = Cast(model=SeeingPolicy, trainer=SeeingTrainer, trainer_rank=SeeingRank)
    result = run_foreground(prepare(spec, world.folder), resume=False, reporter=heard, cast=cast)
    noted = [json.loads(p.read_text()) for p in (world.folder / f"{name}.seen").glob("*.json")]
    assert {(gpu, asked["GPU"]) for role, gpu, asked in noted if role == "engine"} == engines
    assert sorted((gpu, asked["GPU"]) for role, gpu, asked in noted if role == "trainer") == sorted(trainers)
    assert sorted(e.role.split("/")[0] for e in heard.of(ActorReplaced)) == ["policy", "trainer"]
    if len(trainers) == 2:
        assert model_digest(result.root) == model_digest(selm.result.root)
    else:
        losses = [[s.metrics["loss"] for s in ran.of(StepDone) if not s.replayed] for ran in (heard, selm.heard)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-5)
    assert (free_gpus(2.0), held()) == (2.0, [])
