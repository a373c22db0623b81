"""The preference losses and the exploration bonus (DESIGN §2, §4.4), as pure functions on tensors.

The trainer calls `window_loss` for each micro-batch and `pair_metrics` for what it reports. Nothing here runs a model,
logs, or changes its arguments. Log-probs are in nats, summed over response tokens up to and including the first EOS.
Axes: B pair, C comparator. Δ(y) = log π_θ(y|x) − log π_ref(y|x), z = Δ_w − Δ_l, u = β z.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, assert_never

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from xpo_ray.errors import SpecError
from xpo_ray.rounding import logp_bound, ranked_right
from xpo_ray.spec.algorithm import (
    DiscopopObjective,
    DpoObjective,
    DpopObjective,
    HingeObjective,
    IpoObjective,
    LnDpoObjective,
    ObjectiveSpec,
    RpoSftObjective,
    SppoObjective,
)


@dataclass(frozen=True)
class Pairs:
    """B pairs as 1-D float tensors; only the policy's log-probs carry a gradient.

    Example, one pair: logp −10 against −12 under the reference (Δ_w = 2), −9 against −8 (Δ_l = −1), so z = 3.
    """

    logp_chosen_B: Tensor
    logp_rejected_B: Tensor
    reference_chosen_B: Tensor
    reference_rejected_B: Tensor
    tokens_chosen_B: Tensor
    """Response tokens, EOS included."""
    tokens_rejected_B: Tensor
    label_B: Tensor
    """P(chosen beats rejected); 1 for a hard preference."""
    weight_B: Tensor
    """0 masks the pair, whatever its other entries hold."""
    wins_chosen_B: Tensor
    """Mean win probability over the prompt's candidates; NaN where unknown. Only `sppo` reads it."""
    wins_rejected_B: Tensor

    def __post_init__(self) -> None:
        shapes = {axis.name: tuple(getattr(self, axis.name).shape) for axis in fields(self)}
        assert len(set(shapes.values())) == 1, f"not the same pairs: {shapes}"
        assert self.weight_B.dim() == 1, f"not one dimension: {shapes}"

    @property
    def delta_chosen_B(self) -> Tensor:
        """Δ_w, nats."""
        return self.logp_chosen_B - self.reference_chosen_B

    @property
    def delta_rejected_B(self) -> Tensor:
        """Δ_l, nats."""
        return self.logp_rejected_B - self.reference_rejected_B

    @property
    def logps_B(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What z is made of."""
        return (self.logp_chosen_B, self.reference_chosen_B, self.logp_rejected_B, self.reference_rejected_B)

    @property
    def z_B(self) -> Tensor:
        """Δ_w − Δ_l, nats."""
        return self.delta_chosen_B - self.delta_rejected_B

    @property
    def z_per_token_B(self) -> Tensor:
        """Δ_w/|y_w| − Δ_l/|y_l|, nats per token. A response without tokens has Δ = 0, so its mean is 0 too."""
        mean_chosen_B = self.delta_chosen_B / self.tokens_chosen_B.clamp(min=1)
        return mean_chosen_B - self.delta_rejected_B / self.tokens_rejected_B.clamp(min=1)

    def swapped(self) -> Pairs:
        """The same preferences told the other way round: roles exchanged, label p becomes 1 − p."""
        return Pairs(
            logp_chosen_B=self.logp_rejected_B,
            logp_rejected_B=self.logp_chosen_B,
            reference_chosen_B=self.reference_rejected_B,
            reference_rejected_B=self.reference_chosen_B,
            tokens_chosen_B=self.tokens_rejected_B,
            tokens_rejected_B=self.tokens_chosen_B,
            label_B=1 - self.label_B,
            weight_B=self.weight_B,
            wins_chosen_B=self.wins_rejected_B,
            wins_rejected_B=self.wins_chosen_B,
        )

    def unmasked(self) -> Pairs:
        """The pairs with a weight; the others are left out, not multiplied by 0, so that no NaN of theirs gets in."""
        keep_B = self.weight_B > 0
        return Pairs(**{axis.name: getattr(self, axis.name)[keep_B] for axis in fields(self)})


@dataclass(frozen=True)
class WindowLoss:
    """Scalars. `loss` = preference + bonus and carries the graph; the two parts are detached, for reporting."""

    loss: Tensor
    preference: Tensor
    bonus: Tensor


def preference_losses(objective: ObjectiveSpec, beta: float, pairs: Pairs) -> Tensor:
    """The loss of each pair, [B], unweighted.

    A label p < 1 gives the expected loss over who wins: p · loss(chosen, rejected) + (1 − p) · loss(rejected, chosen).
    For a loss f of a signed margin that is p f(u) + (1 − p) f(−u). For `rpo_sft` the likelihood term follows the winner
    too: −η β (p log π(y_w) + (1 − p) log π(y_l)). `sppo` reads win probabilities and treats both responses alike, so the
    label does not enter it. Swapping chosen and rejected with label 1 − p never changes the value.
    """
    certain_B = _certain_losses(objective, beta, pairs)
    if bool((pairs.label_B == 1).all()):
        return certain_B
    return pairs.label_B * certain_B + (1 - pairs.label_B) * _certain_losses(objective, beta, pairs.swapped())


def exploration_bonus(kappa: float, logp_comparator_C: Tensor) -> Tensor:
    """κ log π_θ(ỹ|x), [C], a term of a loss that is minimised: it takes mass away from the comparator.

    XPO, Xie et al., arXiv:2405.21046, Algorithm 1: κ = α. SELM, Zhang et al., arXiv:2405.19332, eq. 4.2: κ = α β.
    """
    return kappa * logp_comparator_C


def window_loss(
    objective: ObjectiveSpec,
    beta: float,
    kappa: float,
    pairs: Pairs,
    logp_comparator_C: Tensor,
    *,
    pairs_total: int,
    comparators_total: int,
) -> WindowLoss:
    """This micro-batch's share of the window's loss: Σ_B weight · loss / pairs_total + Σ_C κ log π(ỹ) / comparators_total.

    The totals count the unmasked pairs and the comparators of the whole window, over all micro-batches and ranks, so the
    shares are to be added up: gradients are summed, never averaged, over micro-batches and ranks. A part whose total is 0
    is 0. The loss always hangs on the graph of the log-probs that were passed in, with gradient 0 where nothing counts, so
    that every rank can go backward; it is a plain 0 only where those carry no graph.
    """
    kept = pairs.unmasked()
    assert kept.weight_B.numel() <= pairs_total, f"{kept.weight_B.numel()} pairs of a window of {pairs_total}"
    assert logp_comparator_C.numel() <= comparators_total, (
        f"{logp_comparator_C.numel()} of {comparators_total} comparators"
    )
    preference = (kept.weight_B * preference_losses(objective, beta, kept)).sum() / max(pairs_total, 1)
    bonus = exploration_bonus(kappa, logp_comparator_C).sum() / max(comparators_total, 1)
    return WindowLoss(preference + bonus, preference.detach(), bonus.detach())


@torch.no_grad()
def pair_metrics(beta: float, pairs: Pairs, dtype: Literal["float32", "bfloat16"]) -> dict[str, float]:
    """Sums over the unmasked pairs and their `count`, so that micro-batches add up and a window divides once.

    rewards/chosen = β Δ_w, rewards/rejected = β Δ_l, rewards/margins = β z, rewards/accuracies = 1 where z > 0, ½ where
    z is 0 up to the rounding of `dtype`, in which the log-probs were computed; logps/* are the policy's alone, nats per
    response."""
    kept = pairs.unmasked()
    values = {
        "rewards/chosen": beta * kept.delta_chosen_B,
        "rewards/rejected": beta * kept.delta_rejected_B,
        "rewards/margins": beta * kept.z_B,
        "rewards/accuracies": ranked_right(kept.z_B, logp_bound(dtype, *kept.logps_B)),
        "logps/chosen": kept.logp_chosen_B,
        "logps/rejected": kept.logp_rejected_B,
    }
    sums = {name: float(value_B.double().sum()) for name, value_B in values.items()}
    return {**sums, "count": float(kept.weight_B.numel())}


def dpo(u_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """−(1−ε) log σ(u) − ε log σ(−u). Rafailov et al., arXiv:2305.18290; ε from Mitchell, "cDPO", 2023."""
    return -(1 - smoothing) * logsigmoid(u_B) - smoothing * logsigmoid(-u_B)


def ipo(z_B: Tensor, beta: float) -> Tensor:
    """(z − 1/(2β))², z in nats (`ipo`) or nats per token (`ipo_mean`). Azar et al., arXiv:2310.12036, eq. 17."""
    return (z_B - 1 / (2 * beta)) ** 2


def hinge(u_B: Tensor) -> Tensor:
    """max(0, 1 − u). SLiC-HF, Zhao et al., arXiv:2305.10425, in the form of RSO, arXiv:2309.06657."""
    return (1 - u_B).clamp(min=0)


def dpop(pairs: Pairs, beta: float, penalty: float) -> Tensor:
    """−log σ(β (z − λ max(0, −Δ_w))). DPO-Positive, Pal et al., arXiv:2402.13228."""
    return -logsigmoid(beta * (pairs.z_B - penalty * (-pairs.delta_chosen_B).clamp(min=0)))


def discopop(u_B: Tensor, tau: float) -> Tensor:
    """(1 − m)(−log σ(u)) + m e^{−u} with m = σ(u/τ). Lu et al., arXiv:2406.08414.

    m e^{−u} is taken as exp(log σ(u/τ) − u): for u ≪ 0 the product would be 0 · ∞.
    """
    logistic_B = torch.sigmoid(-u_B / tau) * -logsigmoid(u_B)
    return logistic_B + torch.exp(logsigmoid(u_B / tau) - u_B)


def sppo(pairs: Pairs, beta: float) -> Tensor:
    """½[(Δ_w − η(P_w − ½))² + (Δ_l − η(P_l − ½))²], η = 1/β, P = mean win probability. Wu et al., arXiv:2405.00675."""
    if bool((pairs.wins_chosen_B.isnan() | pairs.wins_rejected_B.isnan()).any()):
        raise SpecError(
            "algorithm.objective sppo fits win probabilities, and some pairs have none: pairing `given` takes the dataset's "
            "pairs unjudged; choose a judged pairing (best_worst, best_second, best_random, max_margin) or another objective"
        )
    chosen_B = pairs.delta_chosen_B - (pairs.wins_chosen_B - 0.5) / beta
    rejected_B = pairs.delta_rejected_B - (pairs.wins_rejected_B - 0.5) / beta
    return (chosen_B**2 + rejected_B**2) / 2


def _certain_losses(objective: ObjectiveSpec, beta: float, pairs: Pairs) -> Tensor:
    """[B], as if chosen had certainly won."""
    match objective:
        case DpoObjective():
            return dpo(beta * pairs.z_B, objective.label_smoothing)
        case IpoObjective():
            return ipo(pairs.z_B if objective.kind == "ipo" else pairs.z_per_token_B, beta)
        case HingeObjective():
            return hinge(beta * pairs.z_B)
        case LnDpoObjective():  # Ahrabian et al., arXiv:2407.15229; the margin is in nats per token
            return dpo(beta * pairs.z_per_token_B)
        case DpopObjective():
            return dpop(pairs, beta, objective.penalty)
        case RpoSftObjective():  # Liu et al., arXiv:2405.16436; their code has β on both terms, and sums over tokens
            return dpo(beta * pairs.z_B) - objective.eta * beta * pairs.logp_chosen_B
        case DiscopopObjective():
            return discopop(beta * pairs.z_B, objective.tau)
        case SppoObjective():
            return sppo(pairs, beta)
        case _:
            assert_never(objective)
