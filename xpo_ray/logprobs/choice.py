"""Which path a model's log-probs take: the shared one where its attention can do it, else the plain one, and why.

The question is asked of the model itself, on text that it finds likely (`probe_text`): is a path farther from one pass in
float32 over each sequence alone than that pass is in the type that the run computes in?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xpo_ray.last_layer import leave_out_unread
from xpo_ray.logprobs.apart import Apart, OneByOne
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.probe_text import probe_groups
from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, precision
from xpo_ray.logprobs.shared import shared, use_packed_attention, whole
from xpo_ray.logprobs.sides import Sides

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}
"""Difference that rounding may make on the probe: in nats per sequence, or as a share of the largest log-prob where that is
above 1."""
FARTHER = 3.0
"""How many times as far as the model's own rounding a path may be, as root mean square over the probe's sequences."""
alone = OneByOne(plain)


@dataclass(frozen=True)
class Choice:
    """A path and, where it is not the shared one, the reason."""

    log_probs: LogProbFunction
    reason: str | None = None


def choose(model: nn.Module, dtype: Literal["float32", "bfloat16"] = "float32") -> Choice:
    """The path for a model that computes in `dtype` where it lies now: kernels are those of its device. Gives the model the
    attention that reads packings where it takes the shared one.

    A model says what it can by its class; whether a path gives what each sequence gives alone is then tried, because heads and
    attention may do things that no flag tells (scaled logits, other caches).
    """
    sides = Sides.of(whole(model))
    with precision(dtype, next(model.parameters()).device):
        probe = Probe.of(model, dtype)
        reason = _unfit(model) or _why_not_shared(model, probe, sides)
        if reason is None:
            return Choice(_kept_apart(shared, sides))
        if (farther := probe.farther(model, _kept_apart(plain, sides))) is None:
            return Choice(_kept_apart(plain, sides), reason)
    return Choice(alone, f"{reason}; and beside each other sequences change: {farther}")


def _kept_apart(path: LogProbFunction, sides: Sides | None) -> LogProbFunction:
    return path if sides is None else Apart(path, sides)


def _why_not_shared(model: nn.Module, probe: "Probe", sides: Sides | None) -> str | None:
    """What speaks against the shared path on the probe, if anything; then the model has the attention that it had."""
    before, name = whole(model).config._attn_implementation, type(whole(model)).__name__
    leave_out_unread(whole(model))
    use_packed_attention(model)
    try:
        farther = probe.farther(model, _kept_apart(shared, sides))
        reason = None if farther is None else f"{name} gives other log-probs when packed ({farther})"
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = f"{name} cannot be packed: {type(error).__name__}: {error}"
    if reason is not None:
        whole(model).set_attn_implementation(before)
    return reason


@dataclass(frozen=True)
class Probe:
    """Groups, each sequence's log-prob in float32 and alone, and how far from it rounding may bring a path."""

    groups: Sequence[PromptGroup]
    exact_S: Tensor
    allowed: float
    """As root mean square over sequences."""
    least: float
    """A difference that no sequence needs to explain."""

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, dtype: Literal["float32", "bfloat16"]) -> "Probe":
        """Of weights that lie in 16 bits the pass in float32 is one in their own type."""
        with torch.autocast(next(model.parameters()).device.type, enabled=False):
            groups = probe_groups(model)
            exact_S = alone(model, groups).logp_S.float()
        own_S = exact_S if dtype == "float32" else alone(model, groups).logp_S.float()
        least = TOLERANCE[dtype] * max(1.0, float(exact_S.abs().max()))
        return cls(groups, exact_S, FARTHER * _distance(own_S, exact_S), least)

    @torch.no_grad()
    def farther(self, model: nn.Module, path: LogProbFunction) -> str | None:
        """How far a path is from the exact log-probs, where that is more than is allowed."""
        made_S = path(model, self.groups).logp_S.float()
        distance, worst = _distance(made_S, self.exact_S), float((made_S - self.exact_S).abs().max())
        if worst <= self.least or distance <= self.allowed:
            return None
        return f"{distance:.3g} nats apart, rounding explains {max(self.allowed, self.least):.2g}"


def _distance(some_S: Tensor, others_S: Tensor) -> float:
    return float((some_S - others_S).square().mean().sqrt())


def _unfit(model: nn.Module) -> str | None:
    inner = whole(model)
    kinds = set(getattr(inner.config.get_text_config(), "layer_types", None) or ())
    if not (getattr(inner, "_supports_sdpa", False) and getattr(inner, "_supports_attention_backend", False)):
        return f"{type(inner).__name__} does not take attention functions of others"
    if strange := kinds - {"full_attention", "sliding_attention"}:
        return f"{type(inner).__name__} has layers of {sorted(strange)[0]}"
    if inner.get_output_embeddings() is None:
        return f"{type(inner).__name__} has no language-model head"
    return None
