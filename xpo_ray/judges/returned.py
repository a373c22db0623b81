"""From the plain lists and dicts that somebody else's judge returned to a Judgement, which has failed where they do not fit.

Judges whose answers come from outside this process call it, one comparison at a time. It never raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from xpo_ray.judges.judgement import Judgement
from xpo_ray.judges.worker import listed, scores_of

FORMS = ("scores", "wins", "failed")


def judgement_of(judge: str, returned: object, count: int) -> Judgement:
    """The judgement of `count` responses: from a list of scores, or a mapping of which one of FORMS is the only key."""
    try:
        if not isinstance(returned, Mapping):
            return Judgement(judge, scores=scores_of(_without_none(returned, count), count))
        form, value = _only(returned)
        if form == "scores":
            return Judgement(judge, scores=scores_of(_without_none(value, count), count))
        if form == "wins":
            return Judgement(judge, wins=wins_of(value, count))
        return Judgement(judge, reason=f"the judge said: {value!s:.1000}")
    except ValueError as error:
        return Judgement(judge, reason=str(error))


def wins_of(returned: object, count: int) -> tuple[tuple[float | None, ...], ...]:
    """P(row beats column) of every pair; None and NaN are missing, and the diagonal is not read. Raises ValueError."""
    rows = listed(returned, count, "rows of win probabilities, one per response")
    wins = tuple(_row(row, count, place) for place, row in enumerate(rows))
    if count > 1 and all(p is None for i, row in enumerate(wins) for j, p in enumerate(row) if i != j):
        raise ValueError("every win probability is missing; expected at least one number between 0 and 1")
    return wins


def _row(row: object, count: int, place: int) -> tuple[float | None, ...]:
    items = listed(row, count, "win probabilities, one per response")
    return tuple(0.5 if i == place else _probability(item) for i, item in enumerate(items))


def _probability(item: object) -> float | None:
    if item is None:
        return None
    if not isinstance(item, (int, float)):
        raise ValueError(
            f"the function returned {item!r:.200} for a win probability; expected a number from 0 to 1, or None"
        )
    if math.isnan(item):
        return None
    if not 0.0 <= item <= 1.0:
        raise ValueError(f"the function returned {item} for a win probability; expected a number from 0 to 1, or None")
    return float(item)


def _only(returned: Mapping[object, object]) -> tuple[str, object]:
    keys = list(returned)
    if len(keys) != 1 or keys[0] not in FORMS:
        raise ValueError(
            f"the function returned a dict with the keys {keys!r:.200}; expected one of {', '.join(FORMS)}"
        )
    return str(keys[0]), returned[keys[0]]


def _without_none(returned: object, count: int) -> list[object]:
    """JSON has no NaN, so None stands for a missing score too."""
    items = listed(returned, count, "scores, one per response")
    return [math.nan if item is None else item for item in items]
