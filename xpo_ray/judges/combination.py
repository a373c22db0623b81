"""From the judgements of an ensemble's members to one: the formulas. Pure; the judge `ensemble` calls it, prompt by prompt.

Every formula looks at the candidates of one prompt and at nothing else. Means over a shard would make a score depend on which
prompts came along, and on which of them had failed, and running means on which replica judged what before; then a disturbed
run would not end like an undisturbed one.

Of member m let s_m[i] be the strength of candidate i: its score, else its mean win probability over the others. Then

    standardise   x_m[i] = (s_m[i] − mean_i s_m) / std_i s_m    population std over those it knows; 0 where all are equal
    rank          x_m[i] = (beaten + ½ equal) / (n − 1)         of the n − 1 others that it knows
    none          x_m[i] = s_m[i]

where strengths that differ by no more than the member's own rounding are equal. Then

    score[i] = Σ_m w_m x_m[i] / Σ_m w_m

over the members that judged the prompt; a candidate that one of them did not judge has no score, as it would stand on another
footing than the rest. With `none`, where any member gives win probabilities, the verdict is in win probabilities too:

    P(i beats j) = Σ_m w_m P_m(i beats j) / Σ_m w_m             P_m from scores is σ(s_m[i] − s_m[j]) (Bradley and Terry)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from xpo_ray.judges.judgement import Judgement
from xpo_ray.preferences import strengths_of, win

Normalise = Literal["none", "standardise", "rank"]
DECIMALS = 12
"""Normalised scores are rounded, so that the last bit of a quotient cannot break a tie."""


@dataclass(frozen=True)
class Vote:
    """What one member said about a prompt, and its weight."""

    judgement: Judgement
    weight: float = 1.0


def combined(votes: Sequence[Vote], count: int, normalise: Normalise) -> Judgement:
    """One judgement of `count` candidates; none of the votes has failed. Fails where no candidate was judged by all."""
    name = votes[0].judgement.judge if len(votes) == 1 else " + ".join(vote.judgement.judge for vote in votes)
    made = Judgement(f"ensemble({name})", tries=max(vote.judgement.tries for vote in votes))
    if normalise == "none" and any(vote.judgement.scores is None for vote in votes):
        made = replace(made, wins=_mean_wins(votes, count))
    else:
        made = replace(made, scores=_mean_scores(votes, count, normalise))
    made = replace(made, rounding=_rounding(votes, normalise))
    if not strengths_of(made):
        unscaled, scaled = (
            "score that every member gave",
            "normalised score, for which every member must have scored two",
        )
        what = unscaled if normalise == "none" else scaled
        return Judgement(made.judge, reason=f"none of the {count} candidates has a {what}", tries=made.tries)
    return made


def disagreement(verdict: Judgement, votes: Sequence[Vote]) -> float | None:
    """Weighted share of the votes that do not put the verdict's best candidate above its worst, ties half. 0: all agree.

    None where there are fewer than two candidates, or fewer than two votes that know both.
    """
    strengths = strengths_of(verdict)
    if len(strengths) < 2:
        return None
    best, worst = max(strengths, key=strengths.__getitem__), min(reversed(list(strengths)), key=strengths.__getitem__)
    known = [(_against(vote.judgement, best, worst), vote.weight) for vote in votes]
    told = [(against, weight) for against, weight in known if against is not None]
    if len(told) < 2:
        return None
    return math.fsum(against * weight for against, weight in told) / math.fsum(weight for _, weight in told)


def margin(judgement: Judgement) -> float | None:
    """Between the best and the worst candidate, in the judge's own unit; None where it knows fewer than two."""
    strengths = strengths_of(judgement).values()
    return max(strengths) - min(strengths) if len(strengths) > 1 else None


def standardised(strengths: Mapping[int, float], tolerance: float = 0.0) -> dict[int, float]:
    """Zero mean and unit population standard deviation; all 0 where they are equal; nothing of fewer than two."""
    if len(strengths) < 2:
        return {}
    if max(strengths.values()) - min(strengths.values()) <= tolerance:
        return dict.fromkeys(strengths, 0.0)
    largest = max(map(abs, strengths.values())) or 1.0
    scaled = {i: value / largest for i, value in strengths.items()}  # squares of large scores would overflow
    mean = math.fsum(scaled.values()) / len(scaled)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in scaled.values()) / len(scaled))
    if spread < 10.0**-DECIMALS:
        return dict.fromkeys(scaled, 0.0)
    return {i: round((value - mean) / spread, DECIMALS) for i, value in scaled.items()}


def ranked(strengths: Mapping[int, float], tolerance: float = 0.0) -> dict[int, float]:
    """The share of the others that each one beats, ties half; nothing of fewer than two."""
    values, others = list(strengths.values()), len(strengths) - 1
    if others < 1:
        return {}
    beaten = {i: sum(own - v > tolerance for v in values) for i, own in strengths.items()}
    equal = {i: sum(abs(own - v) <= tolerance for v in values) - 1 for i, own in strengths.items()}
    return {i: (beaten[i] + equal[i] / 2) / others for i in strengths}


def _mean_scores(votes: Sequence[Vote], count: int, normalise: Normalise) -> tuple[float | None, ...]:
    given, weights = [_normalised(vote.judgement, normalise) for vote in votes], _shares(votes)
    means = (_mean([each.get(i) for each in given], weights) for i in range(count))
    return tuple(mean if mean is None or normalise == "none" else round(mean, DECIMALS) for mean in means)


def _normalised(judgement: Judgement, normalise: Normalise) -> Mapping[int, float]:
    strengths = strengths_of(judgement)
    match normalise:
        case "none":
            return strengths
        case "standardise":
            return standardised(strengths, judgement.tolerance)
        case "rank":
            return ranked(strengths, judgement.tolerance)
        case _:
            assert_never(normalise)


def _rounding(votes: Sequence[Vote], normalise: Normalise) -> float:
    """Of the mean: its members' roundings, as far as the normalisation scales them up; ranks have none."""
    if normalise == "rank":
        return 0.0
    each = [vote.judgement.tolerance for vote in votes]
    if normalise == "standardise":
        spreads = [_spread(strengths_of(vote.judgement)) for vote in votes]
        each = [
            tolerance / spread if spread > tolerance else 0.0 for tolerance, spread in zip(each, spreads, strict=True)
        ]
    return math.fsum(share * rounding for share, rounding in zip(_shares(votes), each, strict=True))


def _spread(strengths: Mapping[int, float]) -> float:
    """The population standard deviation; 0 of fewer than two."""
    return statistics.pstdev(strengths.values()) if len(strengths) > 1 else 0.0


def _mean(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return math.fsum(weight * value for weight, value in zip(weights, known, strict=True))


def _mean_wins(votes: Sequence[Vote], count: int) -> tuple[tuple[float | None, ...], ...]:
    weights = _shares(votes)
    return tuple(
        tuple(
            0.5 if i == j else _probability([win(vote.judgement, i, j) for vote in votes], weights)
            for j in range(count)
        )
        for i in range(count)
    )


def _probability(values: Sequence[float | None], weights: Sequence[float]) -> float | None:
    mean = _mean(values, weights)
    return None if mean is None else min(max(round(mean, DECIMALS), 0.0), 1.0)


def _shares(votes: Sequence[Vote]) -> list[float]:
    total = math.fsum(vote.weight for vote in votes)
    return [vote.weight / total for vote in votes]


def _against(judgement: Judgement, best: int, worst: int) -> float | None:
    strengths = strengths_of(judgement)
    if best not in strengths or worst not in strengths:
        return None
    margin = strengths[best] - strengths[worst]
    return 0.5 if abs(margin) <= judgement.tolerance else float(margin < 0)
