"""On which device this process computes: models, engines, trainers and judges that hold weights ask here, once, when they are
made. Which GPUs a process sees is Ray's decision (CUDA_VISIBLE_DEVICES), never one that is made here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

CPU = torch.device("cpu")
_instead: torch.device | None = None


def own_device() -> torch.device:
    """The first GPU that torch sees here, else the CPU."""
    if _instead is not None:
        return _instead
    return torch.device("cuda", 0) if torch.cuda.is_available() else CPU


def computing_dtype(tensor: Tensor) -> torch.dtype:
    """In which type a matrix product with a tensor is computed: that of autocast where it is on, else its own."""
    kind = tensor.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if casts else tensor.dtype


def emptied(device: torch.device) -> None:
    """Give back what torch holds of a GPU's memory for later tensors; a CPU's has no such store."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that new tensors can have."""
    free, _ = torch.cuda.mem_get_info(device)
    unused: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused


@contextmanager
def computing_on(device: torch.device | str) -> Iterator[torch.device]:
    """What is made in here lies on that device, whatever else there is: for benchmarks and for comparisons with a CPU. Holds
    for all threads of the process."""
    global _instead
    chosen = torch.device(device)
    first = torch.device("cuda", 0) if chosen == torch.device("cuda") else chosen
    before, _instead = _instead, first
    try:
        yield _instead
    finally:
        _instead = before
