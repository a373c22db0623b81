"""Which path a model's log-probs take: the shared one where its attention can do it, else the plain one, and why."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from xpo_ray.last_layer import leave_out_unread
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, precision
from xpo_ray.logprobs.shared import output_head, shared, use_packed_attention, whole
from xpo_ray.logprobs.unmasked import separate

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}
"""Difference that rounding may make between the two paths on the probe: in nats per sequence, or as a share of the largest
log-prob where that is above 1."""


@dataclass(frozen=True)
class Choice:
    """A path and, where it is not the shared one, the reason."""

    log_probs: LogProbFunction
    reason: str | None = None


def choose(model: nn.Module, dtype: Literal["float32", "bfloat16"] = "float32") -> Choice:
    """The path for a model that computes in `dtype` where it lies now: kernels are those of its device. Gives the model the
    attention that reads packings where it takes the shared one.

    A model says what it can by its class; whether the shared path gives what the plain one gives is then tried on a few
    tokens, because heads and attention may do things that no flag tells (soft caps, scaled logits, other caches).
    """
    if (reason := _unfit(model)) is not None:
        return Choice(separate(model), reason)
    before = whole(model).config._attn_implementation
    with precision(dtype, next(model.parameters()).device):
        leave_out_unread(whole(model))
        use_packed_attention(model)
        reason = _disagreement(model, TOLERANCE[dtype])
    if reason is not None:
        whole(model).set_attn_implementation(before)
        return Choice(plain, reason)
    return Choice(shared)


def _unfit(model: nn.Module) -> str | None:
    inner = whole(model)
    kinds = set(getattr(inner.config.get_text_config(), "layer_types", None) or ())
    if getattr(inner, "_is_stateful", False):
        return f"{type(inner).__name__} has layers with a state"
    if not (getattr(inner, "_supports_sdpa", False) and getattr(inner, "_supports_attention_backend", False)):
        return f"{type(inner).__name__} does not take attention functions of others"
    if strange := kinds - {"full_attention", "sliding_attention"}:
        return f"{type(inner).__name__} has layers of {sorted(strange)[0]}"
    if inner.get_output_embeddings() is None:
        return f"{type(inner).__name__} has no language-model head"
    return None


@torch.no_grad()
def _disagreement(model: nn.Module, tolerance: float) -> str | None:
    """What speaks against the shared path on the probe, if anything."""
    vocabulary = output_head(model)[1]
    probe = [
        PromptGroup([t % vocabulary for t in (3, 1, 4, 1, 5)], tuple([t % vocabulary for t in r] for r in answers))
        for answers in (((9, 2, 6), (5, 3)), ((5, 8, 9, 7), (9, 2, 6)))
    ]
    try:
        packed = shared(model, probe).logp_S
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"{type(whole(model)).__name__} cannot be packed: {type(error).__name__}: {error}"
    worst = float((packed - plain(model, probe).logp_S).abs().max())
    if worst > tolerance * max(1.0, float(packed.abs().max())):
        return f"{type(whole(model)).__name__} gives other log-probs when packed ({worst:.3g} nats apart)"
    return None
