"""The plan's memory against real processes and the real object store: certain ≤ measured ≤ bound."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from tests.actors.conftest import World
from tests.running import tiny_world
from tests.tiny import tiny_model_folder
from xpo_ray.plan import Plan, plan
from xpo_ray.spec.loading import load_spec

pytestmark = [pytest.mark.ray, pytest.mark.long]
EVERY_S = 0.1


@dataclass
class Peaks:
    """The most that was seen, in bytes: of the object store, and of each process by what Ray calls it."""

    store: int = 0
    processes: dict[int, tuple[str, int]] = field(default_factory=dict)

    def of(self, actor: str) -> int:
        """The largest resident size of any process of an actor's class."""
        return max(size for name, size in self.processes.values() if name == actor)

    def look(self) -> None:
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and (found := _seen(process)) is not None:
                self.processes[int(process.name)] = found
        state = get_state_from_address(ray.get_runtime_context().gcs_address)
        self.store = max(self.store, get_memory_info_reply(state).store_stats.object_store_bytes_used)


def _seen(process: Path) -> tuple[str, int] | None:
    """Class and peak resident size of an actor of this test's Ray, whose raylet is a child of this process."""
    try:
        command = (process / "cmdline").read_bytes().decode(errors="replace")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        raylet = (process.parent / status["PPid"].strip() / "stat").read_text().rpartition(")")[2].split()[1]
        if int(raylet) != os.getpid() or not command.startswith("ray::") or "Actor" not in command:
            return None
        name = command.removeprefix("ray::").split(".")[0].split(":")[-1].split("\0")[0]
        return name, 1024 * int(status["VmHWM"].split()[0])
    except (OSError, KeyError, IndexError):  # it has ended
        return None


@contextmanager
def watched() -> Iterator[Peaks]:
    peaks, over = Peaks(), threading.Event()

    def watch() -> None:
        while not over.wait(EVERY_S):
            peaks.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


@pytest.fixture
def large(tmp_path: Path) -> World:
    """A world whose model has 101 M parameters."""
    raw = tiny_world(tmp_path, prompts=16, held_out=4)
    tiny_model_folder(tmp_path / "base", hidden=768, layers=19)
    return World(tmp_path, raw)


def planned(world: World, name: str, *overrides: str) -> Plan:
    return plan(load_spec(world.folder / f"{name}.yaml", overrides))


@pytest.mark.usefixtures("cluster")
def test_trainer_and_engine_lie_between_what_is_certain_and_the_bound(large: World) -> None:
    with watched() as peaks:
        large.run("selm")
    made = planned(large, "selm")
    assert made.parameters == 101_479_680
    roles = {role.role: role for role in made.roles}
    for role, actor in (("trainer", "TrainerActor"), ("policy", "PolicyActor"), ("clerk", "ClerkActor")):
        least, seen = sum(roles[role].least.values()), peaks.of(actor)
        print(f"FIGURES {role}: {least / 1e6:.0f} ≤ {seen / 1e6:.0f} ≤ {roles[role].bytes_each / 1e6:.0f} MB")
        assert least <= seen <= roles[role].bytes_each
    print(f"FIGURES object store: {peaks.store:,} of at most {made.objects.bytes:,} bytes")
    assert peaks.store <= made.objects.bytes


@pytest.mark.usefixtures("cluster")
def test_a_fully_online_run_holds_at_most_two_versions_of_the_weights(tmp_path: Path) -> None:
    world = World(tmp_path, tiny_world(tmp_path, prompts=32))
    tiny_model_folder(tmp_path / "base", hidden=256, layers=6)
    overrides = ("data.partitions=null", "algorithm={kind: xpo}", "evaluation.every_steps=100")
    with watched() as peaks:
        world.run("online", *overrides)
    made = planned(world, "online", *overrides)
    print(f"FIGURES object store: {peaks.store:,} of at most {made.objects.bytes:,} bytes")
    assert made.objects.weights_object <= peaks.store <= made.objects.bytes
