"""Training metrics of one window, with their true definitions. The trainer fills it, micro-batch by micro-batch.

All are means over what they are named after: pairs for rewards/ and logps/chosen|rejected, responses for entropy, all draws of
the window's prompts for draws/. `log_ratio/reference_draws` is the mean of log π_ref − log π_θ over those draws of the
reference that are trained on, `log_ratio/policy_draws` that of log π_θ − log π_ref over the policy's, in nats per response.
They are estimates of KL(π_ref‖π_θ) and KL(π_θ‖π_ref), and are given as kl/reference_policy and kl/policy_reference too, where
three things hold: draws come from the model's own distribution (temperature 1, no top-p, top-k or least length); all of the
window's draws are trained on, as with a bonus on them, and not the judge's choice among them; and the policy is still the one
that drew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from xpo_ray.examples import Example
    from xpo_ray.logprobs import ResponseLogProbs
    from xpo_ray.objectives import Pairs, WindowLoss

from xpo_ray.missing_pairs import missing_pairs
from xpo_ray.objectives import pair_metrics

LOSSES = ("loss", "loss/preference", "loss/bonus")
RATIOS = {"reference": "log_ratio/reference_draws", "policy": "log_ratio/policy_draws"}
KL = {"reference": "kl/reference_policy", "policy": "kl/policy_reference"}


class WindowMetrics:
    """Sums and counts over the micro-batches of a window. `kl_of`: origins whose draws are from the distribution that the
    log-probs are of, under the weights of now."""

    def __init__(
        self,
        beta: float,
        rows: Sequence[dict[str, Any]],
        dtype: Literal["float32", "bfloat16"] = "float32",
        kl_of: frozenset[str] = frozenset(),
    ) -> None:
        self.beta = beta
        self.dtype = dtype
        self.kl_of = kl_of
        self.grad_norm: float | None = None
        """None until a step was taken."""
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._totals: dict[str, float] = dict.fromkeys((*LOSSES, "tokens"), 0.0)
        outcomes = [row["preference"]["outcome"] for row in rows]
        self._outcomes = {kind: outcomes.count(kind) for kind in ("pair", "tie", "dropped")}
        draws = [c for row in rows for c in row["candidates"] if c["origin"] in RATIOS]
        self._seen = missing_pairs(rows)
        if draws:
            self._seen["draws/count"] = float(len(draws))
            self._seen["draws/distinct_rate"] = len({draw["text"] for draw in draws}) / len(draws)
        self._draws = Counter(c["origin"] for c in draws)
        for draw in draws:
            self._add("draws/eos_rate", float(draw["ended"]), 1)
            self._add("draws/length", float(len(draw["ids"])), 1)
            self._add("draws/empty_rate", float(not draw["text"].strip()), 1)

    def add(
        self,
        loss: WindowLoss,
        pairs: Pairs,
        comparators_C: Tensor,
        out: ResponseLogProbs,
        examples: Sequence[Example],
    ) -> None:
        """Add one micro-batch; losses come already divided by the window's counts."""
        for name, part in zip(LOSSES, (loss.loss, loss.preference, loss.bonus), strict=True):
            self._totals[name] += float(part.detach())
        self._totals["tokens"] += float(out.tokens_S.sum())
        sums = dict(pair_metrics(self.beta, pairs, self.dtype))
        count = int(sums.pop("count"))
        for name, value in sums.items():
            self._add(name, value, count)
        self._add("logps/comparator", float(comparators_C.detach().sum()), len(comparators_C))
        if out.entropy_S is not None:
            self._add("entropy", float(out.entropy_S.sum()), len(out.entropy_S))
        origins = [o for e in examples for o in e.origins]
        references = [r for e in examples for r in e.reference_logps]
        for origin, reference, logp in zip(origins, references, out.logp_S.tolist(), strict=True):
            if origin in RATIOS:
                self._add(RATIOS[origin], reference - logp if origin == "reference" else logp - reference, 1)

    def add_rank(self, other: WindowMetrics) -> None:
        """Add what another rank of a group has added up; the rows of the window were given to one of them alone."""
        for name, value in other._totals.items():
            self._totals[name] += value
        for name, value in other._sums.items():
            self._add(name, value, other._counts[name])
        for kind, count in other._outcomes.items():
            self._outcomes[kind] += count
        self._seen |= other._seen
        self._draws += other._draws

    @property
    def loss(self) -> float:
        """What has been added up so far."""
        return self._totals["loss"]

    def _add(self, name: str, value: float, count: int) -> None:
        if count:
            self._sums[name] += value
            self._counts[name] += count

    def values(self) -> dict[str, float]:
        """Means and totals of the window; what has no count is absent, and so are loss and gradient where no step was taken."""
        prompts = max(sum(self._outcomes.values()), 1)
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        whole = {o for o in self.kl_of if 0 < self._draws[o] == self._counts.get(RATIOS[o], 0)}
        stepped = {**self._totals, "grad_norm": self.grad_norm} if self.grad_norm is not None else {"tokens": 0.0}
        return {
            **stepped,
            **means,
            **{KL[origin]: means[RATIOS[origin]] for origin in sorted(whole)},
            **self._seen,
            "skipped": float(self.grad_norm is None),
            "pairs": float(self._outcomes["pair"]),
            "tie_rate": self._outcomes["tie"] / prompts,
            "drop_rate": self._outcomes["dropped"] / prompts,
        }
