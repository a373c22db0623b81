"""The gradients of a group once all micro-batches are through: whole over ranks, and clipped by their norm over all of them.

The matrices' gradients have been added up on their way (FSDP2); those of vectors, which every rank holds, are added up here.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xpo_ray.group.ranks import Ranks


def add_up_vectors(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Sum the gradients of what is not sharded over ranks, all in one message."""
    vectors = [p for p in parameters if not isinstance(p, DTensor)]
    if not vectors:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in vectors]
    sums = ranks.add_up(torch.cat([g.flatten() for g in gradients]))
    for parameter, part in zip(vectors, torch.split(sums, [p.numel() for p in vectors]), strict=True):
        parameter.grad = part.view_as(parameter)


def clip(parameters: Sequence[nn.Parameter], most: float, ranks: Ranks) -> float:
    """Scale all gradients down to an L2 norm of at most `most`; returns the norm before. Where it is not finite, nothing is
    scaled."""
    rows = [p.grad.to_local() for p in parameters if isinstance(p.grad, DTensor)]
    vectors = [p.grad for p in parameters if p.grad is not None and not isinstance(p.grad, DTensor)]
    squares = ranks.add_up(_squares(rows, ranks.device)) + _squares(vectors, ranks.device)
    norm = math.sqrt(squares)
    scale = most / (norm + 1e-6)
    if math.isfinite(norm) and scale < 1.0:
        torch._foreach_mul_([*rows, *vectors], scale)
    return norm


def _squares(tensors: list[Tensor], device: torch.device) -> Tensor:
    """The sum of squares of all entries, in float64."""
    norms = torch._foreach_norm(tensors) if tensors else []
    return torch.stack([torch.zeros((), dtype=torch.float64, device=device), *(n.double() ** 2 for n in norms)]).sum()
