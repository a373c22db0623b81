"""Held-out scores: each response beside the base's and the previous iterate's, in both orders. Called by the judge's actor."""

from collections.abc import Sequence

import pyarrow as pa

from xpo_ray.evaluation.table import JUDGED, JUDGED_COLUMNS, extended
from xpo_ray.judges.judgement import Comparison, Judge, Judgement, Message, Response


def add_scores(judge: Judge | None, based: pa.Table, base: pa.Table | None, previous: pa.Table | None) -> pa.Table:
    """BASED → JUDGED: the response beside the base's and the previous iterate's, in both orders, averaged."""
    others = [t for t in (base, previous) if t is not None]
    if judge is None:
        return extended(based, JUDGED, {name: [None] * based.num_rows for name in JUDGED_COLUMNS})
    comparisons = _comparisons([based, *others])
    forward = judge.judge(comparisons)
    backward = judge.judge([Comparison(c.prompt, c.responses[::-1]) for c in comparisons]) if others else forward
    rows = [
        _judged(f, b if others else None, base is not None, previous is not None)
        for f, b in zip(forward, backward, strict=True)
    ]
    return extended(based, JUDGED, {name: [r[i] for r in rows] for i, name in enumerate(JUDGED_COLUMNS)})


def _comparisons(tables: Sequence[pa.Table]) -> list[Comparison]:
    prompts = tables[0]["prompt"].to_pylist()
    columns = [list(zip(t["response"].to_pylist(), t["ended"].to_pylist(), strict=True)) for t in tables]
    return [
        Comparison(
            tuple(Message(role=m["role"], content=m["content"]) for m in prompt),
            tuple(Response(text, ended) for text, ended in responses),
        )
        for prompt, *responses in zip(prompts, *columns, strict=True)
    ]


def _judged(
    forward: Judgement, backward: Judgement | None, has_base: bool, has_previous: bool
) -> tuple[float | None, ...]:
    """(score, base_score, previous_score, base_win, previous_win) of one prompt."""
    scores = _both_orders(forward, backward)
    base = 1 if has_base else None
    previous = (2 if has_base else 1) if has_previous else None
    return (
        _at(scores, 0),
        _at(scores, base),
        _at(scores, previous),
        _win(forward, backward, scores, base),
        _win(forward, backward, scores, previous),
    )


def _both_orders(forward: Judgement, backward: Judgement | None) -> list[float | None]:
    if forward.scores is None or (backward is not None and backward.scores is None):
        return []
    if backward is None or backward.scores is None:
        return list(forward.scores)
    return [_mean(a, b) for a, b in zip(forward.scores, backward.scores[::-1], strict=True)]


def _win(forward: Judgement, backward: Judgement | None, scores: list[float | None], other: int | None) -> float | None:
    if other is None:
        return None
    if forward.wins is not None and backward is not None and backward.wins is not None:
        last = len(forward.wins) - 1
        return _mean(forward.wins[0][other], backward.wins[last][last - other])
    mine, theirs = _at(scores, 0), _at(scores, other)
    if mine is None or theirs is None:
        return None
    return 0.5 if mine == theirs else float(mine > theirs)


def _mean(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else (a + b) / 2


def _at(values: Sequence[float | None], index: int | None) -> float | None:
    return values[index] if index is not None and index < len(values) else None
