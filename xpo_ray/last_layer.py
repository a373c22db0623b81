"""The last layer's feed-forward part on those positions alone that somebody reads: the others serve only as keys and values.

Log-probs read response positions, a reward model each text's last token, a prompt that is drawn for its last position. In a
model of L layers about 2/(3·L) of a forward and backward pass over the other positions is left out.
"""

from typing import Any

import torch
from torch import Tensor, nn

from xpo_ray.devices import computing_dtype
from xpo_ray.probing import near, probe_ids

PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
"""The modules of a layer of Llama's kind."""


class LastLayer:
    """The forward pass of a layer of Llama's kind: x + attention(norm(x)), then y + mlp(norm(y))."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._whole = layer.forward

    def __call__(self, hidden_states: Tensor, *args: Any, read_R: Tensor | None = None, **kwargs: Any) -> Tensor:
        """[rows, positions, hidden] → the same, or [rows, R, hidden] for the R positions to read."""
        if read_R is None:
            whole: Tensor = self._whole(hidden_states, *args, **kwargs)
            return whole
        if args:  # a mask, perhaps, whose name is not known here
            raise TypeError("a layer that is given positional arguments is read whole")
        layer = self._layer
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **kwargs)
        read = (hidden_states + attended).index_select(1, read_R)
        made: Tensor = read + layer.mlp(layer.post_attention_layernorm(read))
        return made


def leave_out_unread(model: Any) -> bool:
    """Let a transformers model (without a wrapper around it) take `read_R`, the positions whose last hidden states are wanted.
    False for one that is built or computes otherwise: it stays what it was."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList) or {name for name, _ in layers[-1].named_children()} != PARTS:
        return False
    if leaves_out_unread(model):
        return True
    layer: Any = layers[-1]
    before = vars(layer).get("forward")
    layer.forward = LastLayer(layer)
    layer.leaves_out_unread = _agrees(model)
    if not layer.leaves_out_unread:
        vars(layer).pop("forward")
        if before is not None:
            layer.forward = before
    return bool(layer.leaves_out_unread)


def leaves_out_unread(model: Any) -> bool:
    """Whether the model takes `read_R`."""
    layers = getattr(model.base_model, "layers", None) or [None]
    return bool(getattr(layers[-1], "leaves_out_unread", False))


@torch.no_grad()
def _agrees(model: Any) -> bool:
    ids = probe_ids(model)
    read_R = torch.tensor([1, 4], device=model.device)
    whole = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, read_R]
    try:
        read = model.base_model(input_ids=ids, use_cache=False, read_R=read_R).last_hidden_state
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False
    return near(read, whole, computing_dtype(whole))
