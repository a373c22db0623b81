"""Attention over a Packing, as one of transformers' attention functions. Models that are packed are given this name.

Without a packing it is transformers' SDPA attention, so that one model object draws, takes the plain path and the shared one.
Prompts attend causally among themselves; each response attends to its prompt and to itself. On a GPU one kernel does both
(`gpu_attention`); on a CPU, and for heads that no such kernel takes, two SDPA calls on padded blocks do.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from xpo_ray.logprobs.gpu_attention import on_flex, on_segments, takes_flex, takes_varlen
from xpo_ray.logprobs.packing import Blocks, Packing

NAME = "xpo_ray_packed"
UNKNOWN = ("s_aux", "position_bias")
"""Arguments of attention that change its result and that neither blocks nor SDPA know."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packing: Packing | None = None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [1, H, N, D], key and value [1, H_kv, N, D] → [1, N, H, D]. Raises NotImplementedError for attention of a kind
    that it does not know."""
    if strange := [name for name in UNKNOWN if kwargs.get(name) is not None]:
        raise NotImplementedError(f"packed attention does not know {strange[0]}")
    if packing is None:
        return _unpacked(module, query, key, value, attention_mask, scaling, softcap, **kwargs), None
    if query.device.type == "cuda" and softcap is None and takes_varlen(query):
        return on_segments(query, key, value, packing, scaling), None
    if query.device.type == "cuda" and takes_flex(query):
        return on_flex(module, query, key, value, packing, scaling, softcap), None
    return on_blocks(query, key, value, packing.blocks, scaling, softcap), None


def _unpacked(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    **kwargs: Any,
) -> Tensor:
    """[B, H, N, D] → [B, N, H, D], with a mask of SDPA's kind: True where a query sees a key, None for a causal one."""
    if softcap is not None:
        return capped(query, key, value, mask, scaling, softcap).transpose(1, 2)
    out: Tensor = sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, **kwargs)[0]
    return out


def on_blocks(
    query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scaling: float | None, softcap: float | None = None
) -> Tensor:
    """Two SDPA calls: prompts among themselves, responses on their prompt and themselves."""
    b, p, u, t = blocks.shape
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [N, H, D]
    cut = q.shape[0] - u * t if blocks.inverse_N is None else None
    (qp, qr), (kp, kr), (vp, vr) = (_split(x, blocks, cut) for x in (q, k, v))
    prompt = _attend(qp, kp, vp, None, scaling, softcap)
    keys, values = (torch.cat([_behind(x, blocks), y], dim=1) for x, y in ((kp, kr), (vp, vr)))
    response = _attend(qr, keys, values, blocks.sees, scaling, softcap)
    out = torch.cat([prompt.reshape(b * p, *q.shape[1:]), response.reshape(u * t, *q.shape[1:])])
    if blocks.inverse_N is not None:
        out = out.index_select(0, blocks.inverse_N)
    return out.unsqueeze(0)


def _split(x_NHD: Tensor, blocks: Blocks, cut: int | None) -> tuple[Tensor, Tensor]:
    """Blocks of prompts [B, P, H, D] and of responses [U, T, H, D]."""
    b, p, u, t = blocks.shape
    heads = x_NHD.shape[1:]
    if cut is not None:
        return x_NHD[:cut].view(b, p, *heads), x_NHD[cut:].view(u, t, *heads)
    assert blocks.prompt_index is not None
    assert blocks.response_index is not None
    return x_NHD.index_select(0, blocks.prompt_index).view(b, p, *heads), x_NHD.index_select(
        0, blocks.response_index
    ).view(u, t, *heads)


def _behind(x_BPHD: Tensor, blocks: Blocks) -> Tensor:
    """The prompt's block once for each of its responses: [U, P, H, D]."""
    if blocks.responses_each is None:
        return x_BPHD.index_select(0, blocks.prompt_of_U)
    b, p, *heads = x_BPHD.shape
    return x_BPHD.unsqueeze(1).expand(b, blocks.responses_each, p, *heads).reshape(-1, p, *heads)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, sees: Tensor | None, scaling: float | None, softcap: float | None
) -> Tensor:
    """Attention on [rows, positions, heads, D]; causal where `sees` is None."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if softcap is not None:
        return capped(q, k, v, sees, scaling, softcap).transpose(1, 2)
    out = scaled_dot_product_attention(
        q, k, v, attn_mask=sees, is_causal=sees is None, scale=scaling, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2)


def capped(q: Tensor, k: Tensor, v: Tensor, sees: Tensor | None, scaling: float | None, softcap: float) -> Tensor:
    """Attention [B, H, N, D] whose scores are bounded, softcap·tanh(score / softcap), before a mask: SDPA has no such thing."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = softcap * torch.tanh((q @ k.transpose(-1, -2)) * ((scaling or q.shape[-1] ** -0.5) / softcap))
    if sees is None:
        sees = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril(k.shape[-2] - q.shape[-2])
    seen = scores.float().masked_fill(~sees, torch.finfo(torch.float32).min)
    return torch.softmax(seen, dim=-1).to(v.dtype) @ v


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
