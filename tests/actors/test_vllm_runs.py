"""Whole runs that the real vLLM draws for: hand-overs by folder and by object ref, of adapters too, both layouts, and the death
of an engine."""

import math
import os
import signal
import threading
import time
from typing import Any

import psutil
import pytest

from tests.actors.conftest import Ran, World
from tests.patience import Deadline
from tests.running import tiny_world
from tests.service.serving import lives
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.reporting import ActorReplaced, EvaluationDone, StepDone, WeightsServed
from xpo_ray.results import read_result

pytestmark = [
    pytest.mark.ray,
    pytest.mark.vllm,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
]


@pytest.fixture(scope="module")
def served_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Heads of a size that vLLM knows."""
    folder = tmp_path_factory.mktemp("served")
    raw = tiny_world(folder, hidden=128)
    raw["sampling"]["engine"] = "vllm"
    return World(folder, raw)


@pytest.mark.long
def test_selm_runs_to_its_end_with_vllm_and_says_that_it_cannot_be_repeated_bit_by_bit(served_world: World) -> None:
    ran = served_world.run("selm")
    first = [s for s in ran.heard.of(StepDone) if s.step == 1]
    assert [s.metrics["loss/preference"] for s in first] == pytest.approx([math.log(2)] * 2, abs=1e-5)
    assert {e.iteration for e in ran.heard.of(EvaluationDone)} == {0, 1, 2}
    found = read_result(ran.result.root)
    assert found is not None
    assert found.tier == "replay"


@pytest.mark.long
def test_xpo_hands_weights_to_vllm_by_object_ref(served_world: World) -> None:
    raw = {**served_world.raw, "algorithm": {"kind": "xpo", "beta": 0.1, "alpha": 0.01}}
    raw["data"] = {k: v for k, v in raw["data"].items() if k != "partitions"}
    ran = served_world.run("xpo", "resources.layout=colocated", raw=raw)
    assert len(ran.heard.of(StepDone)) == 6
    assert not ran.heard.of(ActorReplaced)


def adapted(world: World, **sections: Any) -> dict[str, Any]:
    """The world's spec with an adapter and a learning rate at which it shows."""
    model = {**world.raw["model"], "lora": {"rank": 4, "alpha": 16.0}}
    return {**world.raw, "model": model, "training": {**world.raw["training"], "learning_rate": 1.0e-2}, **sections}


@pytest.mark.long
def test_vllm_draws_from_adapters_and_from_the_base_beneath_in_one_process(served_world: World) -> None:
    ran = served_world.run("adapter", raw=adapted(served_world))
    assert {e.iteration for e in ran.heard.of(EvaluationDone)} == {0, 1, 2}
    assert {(w.role, w.engine) for w in ran.heard.of(WeightsServed)} == {("policy", "vllm")}
    assert_canaries(ran, versions=3)


@pytest.mark.long
def test_adapters_reach_vllm_by_object_ref(served_world: World) -> None:
    raw = adapted(served_world, algorithm={"kind": "xpo", "beta": 0.1, "alpha": 0.01})
    raw["data"] = {k: v for k, v in raw["data"].items() if k not in ("partitions", "evaluation")}
    ran = served_world.run("xpo-adapter", raw=raw)
    assert len(ran.heard.of(StepDone)) == 6
    assert_canaries(ran, versions=6)


def assert_canaries(ran: Ran, versions: int) -> None:
    """Every version was served as it was trained, and each is another."""
    told = ran.heard.of(WeightsServed)
    assert [w.version for w in told] == list(range(versions))
    assert all(w.canary == pytest.approx(w.trainer_canary, abs=1e-4) for w in told)
    assert len({round(w.canary, 5) for w in told}) == versions


@pytest.mark.faults
@pytest.mark.parametrize("ways", [1, 2])
def test_a_killed_engine_is_replaced_and_the_run_ends(served_world: World, ways: int) -> None:
    """Of an engine that is cut over two processes one of these is killed; neither is left behind."""
    killed: list[int] = []
    hunter = threading.Thread(target=_kill_an_engine, args=(killed, ways))
    hunter.start()
    ran = served_world.run(f"killed-{ways}", f"resources.engine_tensor_parallel={ways}")
    hunter.join()
    assert len(killed) == ways
    assert [e.role for e in ran.heard.of(ActorReplaced)] == ["policy/0"]
    assert len(ran.heard.of(StepDone)) == 6
    assert not any(lives(pid) for pid in killed)


def _kill_an_engine(killed: list[int], ways: int) -> None:
    """The first engine that draws, or the first of its processes; all that should be gone is told."""
    deadline = Deadline(240)
    while deadline.ahead:
        for process in psutil.Process().children(recursive=True):
            if _title(process).startswith("ray::PolicyActor.draw"):
                cut = [p.pid for p in process.children() if "resource_tracker" not in _title(p)]
                assert len(cut) == (ways if ways > 1 else 0)
                killed.extend(cut or [process.pid])
                os.kill(killed[0], signal.SIGKILL)
                return
        time.sleep(0.02)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""
