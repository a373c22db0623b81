"""Algorithms as rows of parts (DESIGN §2): what is drawn, judged, paired, referenced, trained. Pure; no torch.

The scheduler, the trainer and the plan read rows; nothing else asks which algorithm runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, assert_never

from xpo_ray.spec.run import at_iteration

if TYPE_CHECKING:
    from xpo_ray.spec.algorithm import AlgorithmSpec, DrawSpec, ObjectiveSpec
    from xpo_ray.spec.run import RunSpec

Decoding = Literal["sample", "greedy"]
Comparator = Literal["none", "reference_draw", "policy_draw", "both"]
Pairing = Literal["best_worst", "best_second", "best_random", "max_margin", "given"]


@dataclass(frozen=True)
class Draw:
    """`samples` responses per prompt, drawn by the policy or by the reference as they are when the iteration starts."""

    source: Literal["policy", "reference"]
    samples: int = 1
    decoding: Decoding = "sample"


@dataclass(frozen=True)
class Row:
    """The choices that make up one algorithm."""

    draws: tuple[Draw, ...]
    dataset_candidates: bool
    pairing: Pairing
    ties: Literal["mask", "drop", "first"]
    reference: Literal["fixed", "previous", "ema"]
    data: Literal["fresh", "accumulate"]
    beta: float
    """Of one iteration."""
    objective: ObjectiveSpec
    comparator: Comparator
    kappa: float | tuple[float, ...]
    optimizer: Literal["reset", "carry"]
    schedule_span: Literal["iteration", "run"]
    ema_decay: float = 0.0

    @property
    def judged(self) -> bool:
        return self.pairing != "given"

    @property
    def needs_pairs(self) -> bool:
        """The dataset must bring chosen and rejected."""
        return self.dataset_candidates or not self.judged


def rows(spec: RunSpec) -> tuple[Row, ...]:
    """The rows that a run uses: the warm-up's, if it has one, and its own."""
    row = algorithm_row(spec.algorithm)
    return (_warmup_row(spec.algorithm), row) if spec.algorithm.warmup_iterations else (row,)


def row_of_iteration(algorithm: AlgorithmSpec, iteration: int) -> Row:
    """The row of iteration 1..T, with its β: the warm-up's first."""
    row = _warmup_row(algorithm) if iteration <= algorithm.warmup_iterations else algorithm_row(algorithm)
    return replace(row, beta=at_iteration(algorithm.beta, iteration))


def algorithm_row(algorithm: AlgorithmSpec) -> Row:
    """The row of parts that an algorithm stands for, with the β of iteration 1. Sources: reference papers and code named in the
    README."""
    match algorithm.kind:
        case "selm":
            draw = Draw("reference", decoding=algorithm.decoding)
            kappa = algorithm.alpha if algorithm.bonus_scale == "alpha" else _products(algorithm.alpha, algorithm.beta)
            return _iterative(algorithm, draw, "reference_draw", kappa)
        case "iterative_dpo":
            return _iterative(algorithm, Draw("reference", decoding=algorithm.decoding), "none", 0.0)
        case "xpo":
            draws = (Draw("policy"), Draw("reference"))
            return _online(algorithm, draws, "best_worst", algorithm.comparator, algorithm.alpha, algorithm.data)
        case "online_dpo":
            return _online(algorithm, (Draw("policy", algorithm.draws),), algorithm.pairing, "none", 0.0, "fresh")
        case "dpo":
            return _offline(algorithm, "fixed")
        case "sdpo":
            return _offline(algorithm, "previous")
        case "custom":
            return Row(
                draws=tuple(_draw(d) for d in algorithm.draws),
                dataset_candidates=algorithm.dataset_candidates or algorithm.pairing == "given",
                pairing=algorithm.pairing,
                ties=algorithm.ties,
                reference=algorithm.reference,
                data=algorithm.data,
                beta=at_iteration(algorithm.beta, 1),
                objective=algorithm.objective,
                comparator=algorithm.comparator,
                kappa=algorithm.kappa,
                optimizer=algorithm.optimizer,
                schedule_span=algorithm.schedule_span,
                ema_decay=algorithm.ema_decay,
            )
        case _:
            assert_never(algorithm.kind)


def _iterative(algorithm: AlgorithmSpec, draw: Draw, comparator: Comparator, kappa: float | tuple[float, ...]) -> Row:
    return Row(
        draws=(draw,),
        dataset_candidates=True,
        pairing="best_worst",
        ties=algorithm.ties,
        reference="previous",
        data="fresh",
        beta=at_iteration(algorithm.beta, 1),
        objective=algorithm.objective,
        comparator=comparator,
        kappa=kappa,
        optimizer="reset",
        schedule_span="iteration",
    )


def _online(
    algorithm: AlgorithmSpec,
    draws: tuple[Draw, ...],
    pairing: Pairing,
    comparator: Comparator,
    kappa: float | tuple[float, ...],
    data: Literal["fresh", "accumulate"],
) -> Row:
    return Row(
        draws=draws,
        dataset_candidates=False,
        pairing=pairing,
        ties=algorithm.ties,
        reference="fixed",
        data=data,
        beta=at_iteration(algorithm.beta, 1),
        objective=algorithm.objective,
        comparator=comparator,
        kappa=kappa,
        optimizer="carry",
        schedule_span="run",
    )


def _offline(algorithm: AlgorithmSpec, reference: Literal["fixed", "previous"]) -> Row:
    return Row(
        draws=(),
        dataset_candidates=True,
        pairing="given",
        ties=algorithm.ties,
        reference=reference,
        data="fresh",
        beta=at_iteration(algorithm.beta, 1),
        objective=algorithm.objective,
        comparator="none",
        kappa=0.0,
        optimizer="reset" if reference == "previous" else "carry",
        schedule_span="iteration" if reference == "previous" else "run",
    )


def misfits(row: Row) -> str | None:
    """Why the parts of a row do not fit together, with the remedy; None where they do."""
    sources = {draw.source for draw in row.draws}
    candidates = sum(draw.samples for draw in row.draws) + (2 if row.dataset_candidates else 0)
    wanted = {"reference_draw": {"reference"}, "policy_draw": {"policy"}, "both": {"policy", "reference"}}
    if candidates < 2:
        return f"{candidates} candidate for each prompt, a pair needs two; add draws or set dataset_candidates: true"
    if lacking := wanted.get(row.comparator, set()) - sources:
        return f"comparator {row.comparator} needs a draw of the {' and the '.join(sorted(lacking))}; add it to draws"
    if row.comparator == "none" and any(row.kappa if isinstance(row.kappa, tuple) else (row.kappa,)):
        return "kappa is set but comparator is none; name the draws that carry the bonus"
    if row.data == "accumulate" and row.reference != "fixed":
        return f"data: accumulate needs reference: fixed, got {row.reference}; old pairs keep their reference log-probs"
    if row.objective.kind == "sppo" and not row.judged:
        return "objective sppo needs judged candidates, these pairs are given; use another objective or draw"
    return None


def reference_version(row: Row, iteration: int, warmup_iterations: int) -> int:
    """Which published model is the reference of an iteration; version v is the model after iteration v, 0 the initial one.

    `fixed` is the model that the row itself started from, so a warm-up's result where there was a warm-up.
    An EMA reference has no version of its own: it is derived from all of them.
    """
    if row.reference == "fixed":
        return warmup_iterations if iteration > warmup_iterations else 0
    return iteration - 1


def resets_optimizer(algorithm: AlgorithmSpec, iteration: int) -> bool:
    """Whether an iteration begins with new moments: always where its row says so, and as the first one behind a warm-up, whose
    moments are of another objective while the schedule starts anew."""
    return row_of_iteration(algorithm, iteration).optimizer == "reset" or iteration == algorithm.warmup_iterations + 1


def _warmup_row(algorithm: AlgorithmSpec) -> Row:
    match algorithm.warmup_kind:
        case "dpo":
            return replace(_offline(algorithm, "fixed"), optimizer="reset", schedule_span="iteration")
        case "sdpo":
            return _offline(algorithm, "previous")
        case "iterative_dpo":
            return _iterative(algorithm, Draw("reference"), "none", 0.0)
        case _:
            assert_never(algorithm.warmup_kind)


def _draw(draw: DrawSpec) -> Draw:
    return Draw(draw.source, draw.samples, draw.decoding)


def _products(one: float | tuple[float, ...], other: float | tuple[float, ...]) -> float | tuple[float, ...]:
    """αβ, by iteration where either is."""
    lengths = [len(v) for v in (one, other) if isinstance(v, tuple)]
    if not lengths:
        return at_iteration(one, 1) * at_iteration(other, 1)
    return tuple(at_iteration(one, t) * at_iteration(other, t) for t in range(1, max(lengths) + 1))
