"""Whole runs that the real vLLM draws for: hand-overs by folder and by object ref, both layouts, and the death of an engine."""

import math
import os
import signal
import threading
import time

import psutil
import pytest

from tests.actors.conftest import World
from tests.running import tiny_world
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.reporting import ActorReplaced, EvaluationDone, StepDone
from xpo_ray.results import read_result

pytestmark = [
    pytest.mark.ray,
    pytest.mark.vllm,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
    pytest.mark.timeout(600),
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


@pytest.mark.faults
def test_a_killed_engine_is_replaced_and_the_run_ends(served_world: World) -> None:
    killed: list[int] = []
    hunter = threading.Thread(target=_kill_an_engine, args=(killed,))
    hunter.start()
    ran = served_world.run("killed")
    hunter.join()
    assert len(killed) == 1
    assert [e.role for e in ran.heard.of(ActorReplaced)] == ["policy/0"]
    assert len(ran.heard.of(StepDone)) == 6


def _kill_an_engine(killed: list[int]) -> None:
    """The first engine that draws."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline"]):
            if "ray::PolicyActor.draw" in " ".join(process.info["cmdline"] or ()):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return
        time.sleep(0.02)
