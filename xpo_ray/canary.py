"""What is wrong where an engine's canary is not the trainer's: which side has it, and what the engine's weights tell.

The roles of a run ask for the sentence, a policy's process looks at its own weights; it decides nothing.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

NAMED = 3
"""Tensors that a message names; the others are counted."""


@dataclass(frozen=True)
class Examined:
    """A look at the weights of one process: its canary by the plain path of a transformers model with what the process was
    given, and the tensors of that model with NaN or infinity in them."""

    plain: float
    broken: tuple[str, ...]


def broken_tensors(model: nn.Module) -> tuple[str, ...]:
    """Names of weights that hold NaN or infinity."""
    return tuple(name for name, tensor in model.state_dict().items() if _broken(tensor))


def _broken(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())


def canary_fault(engine: float, trainer: float, examined: Examined, *, same: bool) -> str:
    """Which side is wrong, in a sentence; `same` says that the plain path gives the trainer's number."""
    if not math.isfinite(trainer) and examined.broken:
        return f"the weights that both were given hold NaN or infinity: {_list(examined.broken)}"
    if not math.isfinite(trainer):
        return (
            f"the trainer's own log-probs are not finite, though the weights that were published are and give "
            f"{examined.plain:.6f}; the trainer's computation overflows, a larger model.dtype may help"
        )
    if examined.broken:
        return f"the weights that the engine holds have NaN or infinity, the trainer's do not: {_list(examined.broken)}"
    if not math.isfinite(engine):
        return f"the engine's weights are finite and give {examined.plain:.6f} on the plain path; its own computation overflows"
    if same:
        return (
            "the engine was given the weights that the trainer published, which give the trainer's number on the plain path; "
            "it computes with them otherwise, or serves older ones"
        )
    return f"the engine holds other weights than the trainer: on the plain path they give {examined.plain:.6f}"


def _list(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
