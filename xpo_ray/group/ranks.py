"""The ranks of a group: how they meet, and what they tell each other. Every call here is made by all ranks, or hangs until the
group's time limit; one that fails because another rank is gone raises GroupBroken.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from xpo_ray.errors import GroupBroken
from xpo_ray.group.interfaces import interface_towards

T = TypeVar("T")
LOST = ("gloo", "connection closed", "connection reset", "connection refused", "broken pipe", "timed out", "timeout")
"""Words of the errors with which a backend says that it cannot reach another rank; gloo has no class of its own for them."""


def open_store(host: str, timeout_s: float) -> TCPStore:
    """The meeting place of a new group, on a free port of this machine; its `port` is told to the other ranks."""
    return TCPStore(host, 0, None, True, timedelta(seconds=timeout_s), wait_for_workers=False)


@dataclass(frozen=True)
class Ranks:
    """This process's place in its group."""

    rank: int
    size: int
    device: torch.device
    mesh: DeviceMesh

    @classmethod
    def join(
        cls, address: tuple[str, int] | TCPStore, rank: int, size: int, timeout_s: float, device: torch.device
    ) -> "Ranks":
        """Meet the others at a store, or at the address of one. Raises GroupBroken where they do not come in time."""
        limit = timedelta(seconds=timeout_s)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with whole_group():
            store = address if isinstance(address, TCPStore) else TCPStore(*address, None, False, limit)
            if (interface := interface_towards(store.host)) is not None:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
            return cls(rank, size, device, init_device_mesh(device.type, (size,)))

    @property
    def first(self) -> bool:
        """Whether this is the rank whose answers count and that writes what is written once."""
        return self.rank == 0

    def all_told(self, value: T) -> list[T]:
        """What each rank gave, in their order."""
        values: list[Any] = [None] * self.size
        with whole_group():
            dist.all_gather_object(values, value)
        return values

    def from_first(self, value: T | None) -> T | None:
        """What the first rank gave."""
        values: list[Any] = [value if self.first else None]
        with whole_group():
            dist.broadcast_object_list(values, src=0)
        told: T | None = values[0]
        return told

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place; the same bits on all."""
        with whole_group():
            dist.all_reduce(tensor)
        return tensor


@contextmanager
def whole_group() -> Iterator[None]:
    """What fails in here because another rank is gone raises GroupBroken; everything else stays what it is."""
    try:
        yield
    except GroupBroken:
        raise
    except RuntimeError as error:
        if _says_lost(error):
            raise GroupBroken(
                f"a rank of the trainer group has not answered: {str(error).strip().splitlines()[0]}; the group starts "
                "anew from the last checkpoint; where ranks are only slow, raise resources.group_timeout_s"
            ) from error
        raise


def _says_lost(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in LOST)
