"""What this machine has, against the system's own figures and Ray's own default."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from xpo_ray.errors import UserError
from xpo_ray.plan import machine as machines
from xpo_ray.plan.machine import GIB, Machine, this_machine

BIG = Machine(cores=64, memory=512 * GIB, free_memory=400 * GIB, shared_memory=256 * GIB, disk=1000 * GIB)


def test_this_machine_is_as_the_system_says() -> None:
    found = this_machine()
    assert found.cores == os.cpu_count()
    assert 0 < found.free_memory <= found.memory
    assert found.gpus == 0 or found.gpu_memory is None or found.gpu_memory > GIB
    assert found.memory_of_run == found.memory


@pytest.mark.parametrize(
    ("free", "shared", "store", "on_disk"),
    [
        (10 * GIB, 64 * GIB, 3 * GIB, False),
        (10 * GIB, GIB, 3 * GIB, True),  # as in a container with a small /dev/shm
        (100 * GIB, GIB, 10_000_000_000, True),
        (100 * GIB, 20 * GIB, 19 * GIB, False),
        (4000 * GIB, 4000 * GIB, 200_000_000_000, False),
    ],
)
def test_rays_store_is_a_share_of_free_memory_within_shared_memory(
    free: int, shared: int, store: int, on_disk: bool
) -> None:
    machine = replace(BIG, free_memory=free, shared_memory=shared)
    assert (machine.object_store, machine.store_on_disk) == (store, on_disk)


@pytest.mark.parametrize("free_gib", [1, 10, 100, 4000])
def test_the_default_is_the_one_of_the_installed_ray(free_gib: int) -> None:
    """Ray reads /dev/shm itself."""
    from ray._private.utils import get_shared_memory_bytes, resolve_object_store_memory

    machine = replace(BIG, free_memory=free_gib * GIB, shared_memory=get_shared_memory_bytes())
    assert machine.object_store == pytest.approx(resolve_object_store_memory(free_gib * GIB), rel=0.01)


def test_gpus_that_are_told_are_those_of_another_machine() -> None:
    told = BIG.with_gpus(8, 80.0)
    assert (told.gpus, told.gpu_memory, told.memory_of_run) == (8, 80 * GIB, None)
    assert BIG.with_gpus(None, None) is BIG
    here = replace(BIG, gpus=2, gpu_memory=24 * GIB)
    smaller = here.with_gpus(None, 16.0)
    assert (smaller.gpus, smaller.gpu_memory, smaller.memory_of_run) == (2, 16 * GIB, BIG.memory)
    assert here.with_gpus(0, None).gpu_memory is None
    with pytest.raises(UserError, match="say how many to plan for with --gpus N"):
        BIG.with_gpus(None, 80.0)


def test_gpus_are_as_large_as_the_smallest_and_are_asked_until_they_have_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines._told_of_gpus.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machines._gpu_bytes() is None  # there is no such tool
    tool = tmp_path / machines.QUERY[0]
    tool.write_text("#!/bin/sh\necho 81559\necho 24576\n")
    tool.chmod(0o755)
    assert machines._gpu_bytes() == 24 * GIB
    tool.unlink()
    assert machines._gpu_bytes() == 24 * GIB
    machines._told_of_gpus.cache_clear()
