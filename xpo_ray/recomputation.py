"""Activation checkpointing: layers keep their inputs and compute again in the backward pass. The trainer switches it on.

The layers' own forward is wrapped, because transformers' switch acts in training mode alone, and that would turn dropout on.
Loss and gradients are the same to the bit; no weight gets another name.
"""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from xpo_ray.errors import ModelError


def recompute_layers(model: nn.Module) -> None:
    """Let every layer of a transformers model be computed again in the backward pass. Raises ModelError."""
    layers: list[Any] = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise ModelError(
            f"training.activation_checkpointing: {type(model).__name__} has no layers that can be computed again; "
            "set it to false"
        )
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
