"""Held-out scores: each response beside the base's, and beside the previous iterate's. Called by the judge's actor.

Every comparison is of two responses and is made in both orders, so that no place gains from a judge's bias: of three, the
middle one would never stand first.
"""

from dataclasses import dataclass

import pyarrow as pa

from xpo_ray.evaluation.table import JUDGED, JUDGED_COLUMNS, extended
from xpo_ray.judges.judgement import Comparison, Judge, Judgement, Message, Response


@dataclass(frozen=True)
class Beside:
    """One response beside another, averaged over both orders; None where the judge gave no number."""

    score: float | None = None
    other: float | None = None
    win: float | None = None


def add_scores(judge: Judge | None, based: pa.Table, base: pa.Table | None, previous: pa.Table | None) -> pa.Table:
    """BASED → JUDGED. The response's own score is the one beside the base's; without a base, beside the previous one's."""
    to_base = _beside(judge, based, base)
    same = previous is not None and base is not None and previous.equals(base)  # so it is after the first iteration
    to_previous = to_base if same else _beside(judge, based, previous)
    own = _alone(judge, based) if base is None and previous is None else to_previous if base is None else to_base
    columns = (
        [b.score for b in own],
        [b.other for b in to_base],
        [b.other for b in to_previous],
        [b.win for b in to_base],
        [b.win for b in to_previous],
    )
    return extended(based, JUDGED, dict(zip(JUDGED_COLUMNS, columns, strict=True)))


def _alone(judge: Judge | None, mine: pa.Table) -> list[Beside]:
    if judge is None:
        return [Beside()] * mine.num_rows
    return [Beside(score=_score(j, 0)) for j in judge.judge(_comparisons(mine))]


def _beside(judge: Judge | None, mine: pa.Table, theirs: pa.Table | None) -> list[Beside]:
    if judge is None or theirs is None:
        return [Beside()] * mine.num_rows
    forward = judge.judge(_comparisons(mine, theirs))
    backward = judge.judge(_comparisons(theirs, mine))
    return [_both_orders(f, b) for f, b in zip(forward, backward, strict=True)]


def _comparisons(*tables: pa.Table) -> list[Comparison]:
    prompts = tables[0]["prompt"].to_pylist()
    columns = [list(zip(t["response"].to_pylist(), t["ended"].to_pylist(), strict=True)) for t in tables]
    return [
        Comparison(
            tuple(Message(role=m["role"], content=m["content"]) for m in prompt),
            tuple(Response(text, ended) for text, ended in responses),
        )
        for prompt, *responses in zip(prompts, *columns, strict=True)
    ]


def _both_orders(forward: Judgement, backward: Judgement) -> Beside:
    """Mine stands first in `forward` and second in `backward`."""
    score = _mean(_score(forward, 0), _score(backward, 1))
    other = _mean(_score(forward, 1), _score(backward, 0))
    if forward.wins is not None and backward.wins is not None:
        return Beside(score, other, _mean(forward.wins[0][1], backward.wins[1][0]))
    return Beside(score, other, _won(score, other, max(forward.tolerance, backward.tolerance)))


def _score(judgement: Judgement, place: int) -> float | None:
    return None if judgement.scores is None else judgement.scores[place]


def _won(score: float | None, other: float | None, tolerance: float) -> float | None:
    if score is None or other is None:
        return None
    return 0.5 if abs(score - other) <= tolerance else float(score > other)


def _mean(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else (a + b) / 2
