"""On which device this process computes: models, engines, trainers and judges that hold weights ask here, once, when they are
made. Which GPUs a process sees is Ray's decision (CUDA_VISIBLE_DEVICES), never one that is made here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

CPU = torch.device("cpu")
_instead: torch.device | None = None


def own_device() -> torch.device:
    """The first GPU that torch sees here, else the CPU."""
    if _instead is not None:
        return _instead
    return torch.device("cuda", 0) if torch.cuda.is_available() else CPU


@contextmanager
def computing_on(device: torch.device | str) -> Iterator[torch.device]:
    """What is made in here lies on that device, whatever else there is: for benchmarks and for comparisons with a CPU. Holds
    for all threads of the process."""
    global _instead
    before, _instead = _instead, torch.device(device)
    try:
        yield _instead
    finally:
        _instead = before
