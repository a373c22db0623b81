"""A few tokens on which a shortcut is tried beside a model's own forward pass, and how near the two must be. Whoever offers a
shortcut for some models (`last_layer`, `generation.direct`) asks here whether a model may take it."""

from typing import Any

import torch
from torch import Tensor

LEAST, LAST_PLACES = 1e-4, 8.0
"""How far values may differ on the mean: a share of their own mean, or so many last places of their type (6 % in bfloat16)."""


def probe_ids(model: Any) -> Tensor:
    """Two sequences of five token ids [2, 5] that the model knows."""
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], device=model.device)
    return ids % int(model.get_input_embeddings().weight.shape[0])


def near(made: Tensor, own: Tensor, dtype: torch.dtype) -> bool:
    """Whether a shortcut's values are the model's own, but for the rounding of the type that both were computed in."""
    if made.shape != own.shape:
        return False
    tolerance = max(LEAST, LAST_PLACES * torch.finfo(dtype).eps)
    return bool((made - own).abs().mean() <= tolerance * own.abs().mean())
