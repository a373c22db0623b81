"""Training metrics of one window, with their true definitions. The trainer fills it, micro-batch by micro-batch.

All are means over what they are named after: pairs for rewards/ and logps/chosen|rejected, responses for entropy, all draws of
the window's prompts for draws/. KL is estimated only on responses whose sampler is known, as k1 in nats per sequence:
kl/reference_policy is KL(π_ref‖π_θ), the mean of log π_ref − log π_θ over the reference's draws; kl/policy_reference is
KL(π_θ‖π_ref) on the policy's draws, exact while π_θ is still the policy that drew them. Only draws that are trained on have
log-probs: all where they carry the bonus, else the judge's choice among them, and then the mean leans towards that choice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from xpo_ray.examples import Example
    from xpo_ray.logprobs import ResponseLogProbs
    from xpo_ray.objectives import Pairs, WindowLoss

from xpo_ray.objectives import pair_metrics


class WindowMetrics:
    """Sums and counts over the micro-batches of a window."""

    def __init__(self, beta: float, rows: Sequence[dict[str, Any]]) -> None:
        self.beta = beta
        self.grad_norm = 0.0
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._totals: dict[str, float] = {"loss": 0.0, "loss/preference": 0.0, "loss/bonus": 0.0, "tokens": 0.0}
        outcomes = [row["preference"]["outcome"] for row in rows]
        self._outcomes = {kind: outcomes.count(kind) for kind in ("pair", "tie", "dropped")}
        draws = [c for row in rows for c in row["candidates"] if c["origin"] in ("policy", "reference")]
        for draw in draws:
            self._add("draws/eos_rate", float(draw["ended"]), 1)
            self._add("draws/length", float(len(draw["ids"])), 1)

    def add(
        self,
        loss: WindowLoss,
        pairs: Pairs,
        comparators_C: Tensor,
        out: ResponseLogProbs,
        examples: Sequence[Example],
    ) -> None:
        """Add one micro-batch; losses come already divided by the window's counts."""
        for name, part in (("loss", loss.loss), ("loss/preference", loss.preference), ("loss/bonus", loss.bonus)):
            self._totals[name] += float(part.detach())
        self._totals["tokens"] += float(out.tokens_S.sum())
        sums = dict(pair_metrics(self.beta, pairs))
        count = int(sums.pop("count"))
        for name, value in sums.items():
            self._add(name, value, count)
        self._add("logps/comparator", float(comparators_C.detach().sum()), len(comparators_C))
        if out.entropy_S is not None:
            self._add("entropy", float(out.entropy_S.sum()), len(out.entropy_S))
        origins = [o for e in examples for o in e.origins]
        references = [r for e in examples for r in e.reference_logps]
        for origin, reference, logp in zip(origins, references, out.logp_S.tolist(), strict=True):
            if origin == "reference":
                self._add("kl/reference_policy", reference - logp, 1)
            elif origin == "policy":
                self._add("kl/policy_reference", logp - reference, 1)

    def add_rank(self, other: WindowMetrics) -> None:
        """Add what another rank of a group has added up; the rows of the window were given to one of them alone."""
        for name, value in other._totals.items():
            self._totals[name] += value
        for name, value in other._sums.items():
            self._add(name, value, other._counts[name])
        for kind, count in other._outcomes.items():
            self._outcomes[kind] += count

    @property
    def loss(self) -> float:
        """What has been added up so far."""
        return self._totals["loss"]

    def _add(self, name: str, value: float, count: int) -> None:
        if count:
            self._sums[name] += value
            self._counts[name] += count

    def values(self) -> dict[str, float]:
        """Means and totals of the window; what has no count is absent."""
        prompts = max(sum(self._outcomes.values()), 1)
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        return {
            **self._totals,
            **means,
            "grad_norm": self.grad_norm,
            "pairs": float(self._outcomes["pair"]),
            "tie_rate": self._outcomes["tie"] / prompts,
            "drop_rate": self._outcomes["dropped"] / prompts,
        }
