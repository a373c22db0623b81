"""Which path a model's log-probs take: the shared one where its attention can do it, else the plain one, and why.

The question is asked of the model itself, on text that it finds likely (`probe_text`): is the shared path farther from a pass
in float32 over each sequence alone than the plain one is, both in the type that the run computes in?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xpo_ray.last_layer import leave_out_unread
from xpo_ray.logprobs.apart import Apart, OneByOne
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.probe_text import probe_groups
from xpo_ray.logprobs.seam import LogProbFunction, PromptGroup, precision
from xpo_ray.logprobs.shared import shared, use_packed_attention, whole
from xpo_ray.logprobs.sides import Sides
from xpo_ray.logprobs.unmasked import separate

TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-3}
"""Difference from float32 that asks for no explanation: in nats per sequence, or as a share of the largest log-prob where that
is above 1."""
BESIDE = {"float32": 1e-3, "bfloat16": 5e-2}
"""The same between a sequence beside others and alone; where weights lie in 16 bits both are rounded."""
FARTHER = 3.0
"""How many times as far as the plain path the shared one may be, as root mean square over the probe's sequences."""
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
    sides, device = Sides.of(whole(model)), next(model.parameters()).device
    exact: Literal["float32", "bfloat16"] = "float32" if _in_float32(model) else dtype
    if (reason := _unfit(model)) is not None:
        with precision(exact, device):
            return Choice(_kept_apart(separate(model, BESIDE[exact]), sides), reason)
    slower = _kept_apart(plain, sides)
    with precision(exact, device):
        probe = Probe.of(model)
        feels = probe.farther(model, slower, share=BESIDE[exact])
    if feels is not None:
        return Choice(alone, f"{type(whole(model)).__name__} gives a sequence other log-probs beside others ({feels})")
    with precision(dtype, device):
        reason = _why_not_shared(model, probe, sides, dtype)
    return Choice(slower, reason) if reason else Choice(_kept_apart(shared, sides))


def _kept_apart(path: LogProbFunction, sides: Sides | None) -> LogProbFunction:
    return path if sides is None else Apart(path, sides)


def _why_not_shared(
    model: nn.Module, probe: "Probe", sides: Sides | None, dtype: Literal["float32", "bfloat16"]
) -> str | None:
    """What speaks against the shared path on the probe, if anything; then the model has the attention that it had."""
    rounding = probe.distance(model, _kept_apart(plain, sides))
    before, name = whole(model).config._attn_implementation, type(whole(model)).__name__
    leave_out_unread(whole(model))
    use_packed_attention(model)
    try:
        path = _kept_apart(shared, sides)
        farther = probe.farther(model, path, share=TOLERANCE[dtype], rounding=FARTHER * rounding)
        reason = None if farther is None else f"{name} gives other log-probs when packed ({farther})"
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = f"{name} cannot be packed: {type(error).__name__}: {error}"
    if reason is not None:
        whole(model).set_attn_implementation(before)
    return reason


@dataclass(frozen=True)
class Probe:
    """Groups, and the log-prob of each of their sequences alone."""

    groups: Sequence[PromptGroup]
    exact_S: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module) -> "Probe":
        """As the model computes here: in float32 where its weights allow it."""
        groups = probe_groups(model)
        return cls(groups, alone(model, groups).logp_S.float())

    @torch.no_grad()
    def distance(self, model: nn.Module, path: LogProbFunction) -> float:
        """Root mean square, in nats per sequence."""
        return float((path(model, self.groups).logp_S.float() - self.exact_S).square().mean().sqrt())

    @torch.no_grad()
    def farther(self, model: nn.Module, path: LogProbFunction, *, share: float, rounding: float = 0.0) -> str | None:
        """How far a path is, where no sequence may be farther than a share of the largest log-prob, nor all of them than
        rounding explains."""
        off_S = path(model, self.groups).logp_S.float() - self.exact_S
        worst, least = float(off_S.abs().max()), share * max(1.0, float(self.exact_S.abs().max()))
        distance = float(off_S.square().mean().sqrt())
        if worst <= least or distance <= rounding or not bool(torch.isfinite(self.exact_S).all()):
            return None  # of weights with NaN in them nothing can be told here; the canary tells it
        return f"{worst:.3g} nats apart; rounding explains {max(least, rounding):.2g}"


def _in_float32(model: nn.Module) -> bool:
    """Whether the model can compute without autocast: not where weights lie, or travel to those that compute, in 16 bits."""
    return all(p.dtype == torch.float32 and not isinstance(p, DTensor) for p in model.parameters())


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
