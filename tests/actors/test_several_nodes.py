"""A run over two Ray nodes: ranks of the trainer group and engines on both. Both are processes of
this machine, under its one address."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

from tests.running import events, tiny_world, write_spec, xpo_ray

pytestmark = [pytest.mark.ray, pytest.mark.long]
ROLES = ("PolicyActor", "TrainerRank")


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """Two, with a CPU each."""
    each = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=each)
    try:
        cluster.add_node(**each)
        yield cluster
    finally:
        cluster.shutdown()


class Watch(threading.Thread):
    """Notes which roles have worked on which node, until it is stopped."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        heads = (cluster.head_node, *cluster.worker_nodes)
        self._agents = [node.all_processes["raylet"][0].process.pid for node in heads]
        self._over = threading.Event()
        self.seen: set[tuple[str, int]] = set()

    def run(self) -> None:
        while not self._over.is_set():
            for node, agent in enumerate(self._agents):
                self.seen |= {(role, node) for role in ROLES for title in _titles(agent) if f"ray::{role}." in title}
            time.sleep(0.05)

    def stop(self) -> set[tuple[str, int]]:
        self._over.set()
        self.join()
        return self.seen


def _titles(agent: int) -> list[str]:
    """What the workers of a node are at."""
    found = []
    for process in psutil.Process(agent).children():
        try:
            found.append(" ".join(process.cmdline()))
        except psutil.Error:  # it has ended
            continue
    return found


def test_a_trainer_group_and_engines_work_over_two_nodes(nodes: Cluster, tmp_path: Path) -> None:
    raw = tiny_world(tmp_path)
    raw["resources"] = {
        "ray_address": nodes.address,
        "dashboard": False,
        "engine_replicas": 4,
        "trainer_workers": 2,
        "trainer_worker_resources": {"CPU": 1},
    }
    watch = Watch(nodes)
    watch.start()
    ran = xpo_ray("run", write_spec(tmp_path, raw))
    seen = watch.stop()
    assert ran.returncode == 0, ran.stderr
    assert {("TrainerRank", 0), ("TrainerRank", 1)} <= seen
    assert {("PolicyActor", 0), ("PolicyActor", 1)} <= seen
    assert [e["total_step"] for e in events(tmp_path / "out", "StepDone")] == [1, 2, 3, 4, 5, 6]
    assert events(tmp_path / "out", "ActorReplaced") == []
