"""A batch that does not fit into the memory is read in halves. Judges that hold a model call this; it knows none of them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from xpo_ray.errors import JudgeError

Item = TypeVar("Item")


def in_halves(
    forward: Callable[[Sequence[Item]], list[float]], batch: Sequence[Item], no_room: Callable[[Item], str]
) -> list[float]:
    """One number per item, in order. Raises JudgeError with what `no_room` says of an item that does not fit by itself."""
    try:
        return forward(batch)
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise JudgeError(no_room(batch[0])) from error
    half = len(batch) // 2
    return in_halves(forward, batch[:half], no_room) + in_halves(forward, batch[half:], no_room)
