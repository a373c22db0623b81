"""Algorithms as the user names them, and their objectives. xpo_ray.algorithms turns each into a row of parts."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from xpo_ray.spec.base import Spec

PerIteration = NonNegativeFloat | Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
"""One value, or one for each iteration."""


class DpoObjective(Spec):
    """−log σ(β z); with label smoothing ε: −(1−ε) log σ(β z) − ε log σ(−β z)."""

    kind: Literal["dpo"] = "dpo"
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5)


class IpoObjective(Spec):
    """(z − 1/(2β))² on summed log-probs (`ipo`) or on means over tokens (`ipo_mean`)."""

    kind: Literal["ipo", "ipo_mean"]


class HingeObjective(Spec):
    """max(0, 1 − β z), SLiC."""

    kind: Literal["hinge"]


class LnDpoObjective(Spec):
    """−log σ(β (Δ_w/|y_w| − Δ_l/|y_l|)), length-normalised DPO."""

    kind: Literal["ln_dpo"]


class DpopObjective(Spec):
    """−log σ(β (z − λ max(0, −Δ_w))), DPO-Positive."""

    kind: Literal["dpop"]
    penalty: NonNegativeFloat = 50.0
    """λ."""


class RpoSftObjective(Spec):
    """−log σ(β z) − η β log π(y_w), the log-likelihood summed over tokens: DPO with a likelihood term on the chosen
    response."""

    kind: Literal["rpo_sft"]
    eta: NonNegativeFloat = 0.005
    """η; β multiplies it too, as in the authors' code, whose default this is."""


class DiscopopObjective(Spec):
    """Log-ratio modulated mixture of logistic and exponential loss, DiscoPOP."""

    kind: Literal["discopop"]
    tau: PositiveFloat = 0.05


class SppoObjective(Spec):
    """½[(Δ_w − η(P_w − ½))² + (Δ_l − η(P_l − ½))²] with η = 1/β and P the mean win probability over the candidates."""

    kind: Literal["sppo"]


ObjectiveSpec = Annotated[
    DpoObjective
    | IpoObjective
    | HingeObjective
    | LnDpoObjective
    | DpopObjective
    | RpoSftObjective
    | DiscopopObjective
    | SppoObjective,
    Field(discriminator="kind"),
]


class Row(Spec):
    """What every algorithm has."""

    beta: PositiveFloat | Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = 0.1
    """Strength of the KL regularisation to the reference; one value, or one for each iteration."""
    objective: ObjectiveSpec = DpoObjective()
    ties: Literal["mask", "drop", "first"] = "mask"
    """`mask`: no preference term, the bonus stays. `drop`: neither. `first`: the earlier candidate counts as the better."""
    warmup_iterations: int = Field(0, ge=0)
    """Leading iterations trained by `warmup_kind` instead (the paper's Zephyr: one of `dpo`). What follows begins as a run of
    its own would from their result: with new moments of the optimizer, and a schedule from its start."""
    warmup_kind: Literal["dpo", "sdpo", "iterative_dpo"] = "dpo"


class SelmAlgorithm(Row):
    """SELM: draw from the reference, best and worst of {draw, chosen, rejected}, bonus on the draw, reference ← policy."""

    kind: Literal["selm"]
    alpha: PerIteration = 0.001
    """Strength of the exploration bonus."""
    bonus_scale: Literal["alpha_beta", "alpha"] = "alpha_beta"
    """κ = αβ as in eq. 4.2 and the authors' code, or κ = α as in Algorithm 1 of the paper."""
    decoding: Literal["sample", "greedy"] = "sample"
    """`sample` as in the paper, `greedy` as in the authors' code."""


class IterativeDpoAlgorithm(Row):
    """SELM without the bonus."""

    kind: Literal["iterative_dpo"]
    decoding: Literal["sample", "greedy"] = "sample"


class XpoAlgorithm(Row):
    """XPO: one draw of the policy against one of the fixed reference, bonus on the comparator."""

    kind: Literal["xpo"]
    alpha: PerIteration = 1e-5
    """κ itself, not multiplied by β; one value or one per iteration."""
    comparator: Literal["reference_draw", "policy_draw", "both"] = "reference_draw"
    """Which draw carries the bonus, whatever its rank. The bonus is a mean over comparators, so that with `both` each of the
    two draws of a prompt carries κ/2."""
    data: Literal["fresh", "accumulate"] = "fresh"
    """`accumulate` trains on the pairs of all iterations so far, as Algorithm 1 of the paper does."""


class OnlineDpoAlgorithm(Row):
    """Online DPO: K draws of the policy, best against worst, fixed reference."""

    kind: Literal["online_dpo"]
    draws: int = Field(2, ge=2)
    """K."""
    pairing: Literal["best_worst", "best_second", "best_random", "max_margin"] = "best_worst"
    """What the best draw is paired with; `max_margin` takes the pair that the judge is surest of."""


class DpoAlgorithm(Row):
    """Offline DPO on the dataset's pairs, fixed reference."""

    kind: Literal["dpo"]


class SdpoAlgorithm(Row):
    """Stepwise DPO on the dataset's pairs, reference ← policy after each iteration."""

    kind: Literal["sdpo"]


class DrawSpec(Spec):
    """Who draws how many responses per prompt."""

    source: Literal["policy", "reference"]
    samples: int = Field(1, ge=1)
    decoding: Literal["sample", "greedy"] = "sample"


class CustomAlgorithm(Row):
    """Any combination of the parts."""

    kind: Literal["custom"]
    draws: tuple[DrawSpec, ...] = ()
    dataset_candidates: bool = False
    """The dataset's chosen and rejected are candidates too."""
    pairing: Literal["best_worst", "best_second", "best_random", "max_margin", "given"] = "best_worst"
    """`given`: the dataset's pair, unjudged."""
    reference: Literal["fixed", "previous", "ema"] = "fixed"
    """`fixed`: the model that the algorithm began from (behind a warm-up its result); `previous`: the iterate before; `ema`: a
    moving average. With an adapter the same: only a fixed reference without a warm-up is the base with the adapter off."""
    ema_decay: float = Field(0.4, ge=0.0, lt=1.0)
    """With `ema`: reference ← decay · reference + (1 − decay) · policy after each iteration."""
    data: Literal["fresh", "accumulate"] = "fresh"
    comparator: Literal["none", "reference_draw", "policy_draw", "both"] = "none"
    """Which draws carry the exploration bonus, which is a mean over all of them: of n draws of a prompt each carries κ/n."""
    kappa: PerIteration = 0.0
    """Weight of the bonus, κ · log π(comparator)."""
    optimizer: Literal["reset", "carry"] = "reset"
    """Whether an iteration begins with new moments or goes on with those of the one before; behind a warm-up they are new."""
    schedule_span: Literal["iteration", "run"] = "iteration"
    """Over what the learning rate rises and decays: each iteration, or all that follow the warm-up."""


AlgorithmSpec = Annotated[
    SelmAlgorithm
    | IterativeDpoAlgorithm
    | XpoAlgorithm
    | OnlineDpoAlgorithm
    | DpoAlgorithm
    | SdpoAlgorithm
    | CustomAlgorithm,
    Field(discriminator="kind"),
]
