"""Attention over a Packing on a GPU: FlashAttention for sequences of varying lengths in 16 bits, FlexAttention in float32.

`attention` calls these where `blocks` would pad, and where masked groups of heads have no fast kernel. Both read the packed
tokens as they lie. Axes: N packed tokens, K keys in the order of `Segments`, H heads, D size of a head.
"""

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers.integrations.flex_attention import flex_attention_forward

from xpo_ray.devices import computing_dtype
from xpo_ray.logprobs.packing import Packing, Segments

LARGEST_HEAD, HEAD_STEP = 256, 8
"""What FlashAttention 2 computes, on GPUs of compute capability 8.0 and later."""
LEAST_FLEX_HEAD = 16
KNOWS_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""torch 2.11 has no groups of heads there."""


class Varlen(Protocol):
    """Queries [N, H, D] on keys and values [K, H_kv, D], causal so that the last query of a sequence sees all its keys."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments, scaling: float | None) -> Tensor: ...


def takes_varlen(query: Tensor) -> bool:
    """Whether FlashAttention computes heads of this size, in this type, on this GPU."""
    fits = query.shape[-1] <= LARGEST_HEAD and query.shape[-1] % HEAD_STEP == 0
    return fits and computing_dtype(query).itemsize == 2 and torch.cuda.get_device_capability(query.device) >= (8, 0)


def takes_flex(query: Tensor) -> bool:
    """Whether FlexAttention computes heads of this size."""
    return query.shape[-1] >= LEAST_FLEX_HEAD


def flash(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scaling: float | None) -> Tensor:
    """Torch's varlen attention."""
    groups: dict[str, Any] = {"enable_gqa": q.shape[1] != k.shape[1]} if KNOWS_GROUPS else {}
    if not KNOWS_GROUPS:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    out = varlen_attn(
        q,
        k,
        v,
        segments.query_begins,
        segments.key_begins,
        segments.most_queries,
        segments.most_keys,
        scale=scaling,
        window_size=(-1, 0),
        **groups,
    )
    assert isinstance(out, Tensor)  # nothing beside it was asked for
    return out


def on_segments(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, scaling: float | None, varlen: Varlen = flash
) -> Tensor:
    """[1, H, N, D] and [1, H_kv, N, D] → [1, N, H, D]: one call on prompts and responses alike, nothing padded or masked."""
    segments = packing.segments
    q, k, v = (x[0].transpose(0, 1).to(computing_dtype(x)) for x in (query, key, value))
    k, v = (x.index_select(0, segments.keys_K) for x in (k, v))
    return varlen(q, k, v, segments, scaling).unsqueeze(0)


def on_flex(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    scaling: float | None,
    softcap: float | None = None,
) -> Tensor:
    """The same by a mask of blocks, in a kernel that is compiled at the first call."""
    q, k, v = (x.to(computing_dtype(x)) for x in (query, key, value))
    out: Tensor = flex_attention_forward(module, q, k, v, packing.block_mask, scaling=scaling, softcap=softcap)[0]
    return out
