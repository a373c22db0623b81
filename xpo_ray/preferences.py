"""From judgements to preferences (DESIGN §4.4, §4.7): which candidate is chosen, which rejected, which carry the bonus.

The judge's actor calls `comparisons` before and `prefer` after it has judged a shard; `given` stands in where nothing is
judged. Pure: no model, no clock, no generator; the same inputs give the same table.

Order of candidates settles ties: the best is the first with the greatest strength, the worst the last with the least, so
the two are never the same candidate, and of two equal draws the one that stands first (the policy's) is the chosen one.
Strengths are equal that differ by no more than the judge's own rounding, which only a judge that computes states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, permutations
from typing import Any, Literal, NamedTuple, assert_never

import pyarrow as pa
import pyarrow.compute as pc

from xpo_ray.algorithms import Comparator, Row
from xpo_ray.errors import JudgeError
from xpo_ray.judges.judgement import Comparison, Judgement, Message, Response
from xpo_ray.seeds import seed_of
from xpo_ray.shards import PREFERENCES, with_column

IDENTICAL = "chosen and rejected have the same text"
TIED = "chosen and rejected are tied"
BONUS_ORIGINS: dict[Comparator, frozenset[str]] = {
    "none": frozenset(),
    "reference_draw": frozenset({"reference"}),
    "policy_draw": frozenset({"policy"}),
    "both": frozenset({"reference", "policy"}),
}


@dataclass(frozen=True)
class Preference:
    """What is trained on for one prompt; fields as in shards.PREFERENCE, indices into the prompt's candidates.

    A tie keeps its two indices, with label ½ and weight 0, so that it can be shown; a dropped prompt has none.
    """

    outcome: Literal["pair", "tie", "dropped"]
    chosen: int | None = None
    rejected: int | None = None
    comparators: tuple[int, ...] = ()
    label: float = 0.5
    weight: float = 0.0
    wins_chosen: float | None = None
    wins_rejected: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Counts:
    """Prompts of a shard by outcome: prompts = pairs + ties + dropped. `identical`: ties or drops for equal texts."""

    prompts: int
    pairs: int
    ties: int
    dropped: int
    identical: int


class _Selection(NamedTuple):
    """Two candidates and how much stronger the first is; a margin within the tie margin is a tie."""

    chosen: int
    rejected: int
    margin: float


def prefer(
    candidates: pa.Table, judgements: Sequence[Judgement], row: Row, *, tie_margin: float, seed: int, iteration: int
) -> pa.Table:
    """The shard with its judgements and preferences: CANDIDATES in, PREFERENCES out. `seed` is the run's."""
    assert len(judgements) == candidates.num_rows, f"{len(judgements)} judgements, {candidates.num_rows} prompts"
    prompts = zip(
        candidates["row"].to_pylist(), judgements, _each(candidates, "origin"), _each(candidates, "text"), strict=True
    )
    preferences = [
        pair(row, judgement, origins, texts, tie_margin=tie_margin, seed=seed_of(seed, "pairing", iteration, index))
        for index, judgement, origins, texts in prompts
    ]
    return with_column(
        candidates,
        PREFERENCES,
        judgement=[asdict(judgement) | {"status": _status(row, judgement)} for judgement in judgements],
        preference=[asdict(preference) for preference in preferences],
    )


def pair(
    row: Row, judgement: Judgement, origins: Sequence[str], texts: Sequence[str], *, tie_margin: float, seed: int
) -> Preference:
    """The preference of one prompt whose candidates have these origins and texts.

    Pairing `given` takes the dataset's pair and never reads the judgement; else fewer than two candidates with a strength
    drop the prompt. `seed` settles best_random alone: a hash, from seeds.seed_of.
    """
    comparators = tuple(i for i, origin in enumerate(origins) if origin in BONUS_ORIGINS[row.comparator])
    if row.pairing == "given":
        selection = _Selection(origins.index("chosen"), origins.index("rejected"), math.inf)
        return _settle(row, selection, Judgement(judge="dataset"), comparators, texts, tie_margin)
    if judgement.failed:
        return Preference("dropped", reason=judgement.reason or "the judgement failed")
    _check(judgement, len(texts))
    strengths = strengths_of(judgement)
    if len(strengths) < 2:
        return Preference("dropped", reason=f"{len(strengths)} of {len(texts)} candidates were judged, a pair needs 2")
    return _settle(row, _select(row, judgement, strengths, seed), judgement, comparators, texts, tie_margin)


def comparisons(candidates: pa.Table) -> list[Comparison]:
    """What judges read of a CANDIDATES table, one comparison per prompt, candidates in their stated order."""
    prompts = zip(candidates["prompt"].to_pylist(), _each(candidates, "text"), _each(candidates, "ended"), strict=True)
    return [
        Comparison(
            prompt=tuple(Message(role=turn["role"], content=turn["content"]) for turn in prompt),
            responses=tuple(Response(text, ended) for text, ended in zip(texts, endings, strict=True)),
        )
        for prompt, texts, endings in prompts
    ]


def given(candidates: pa.Table) -> list[Judgement]:
    """Stand-ins for prompts that nobody judges, because pairing `given` takes the dataset's pair."""
    return [Judgement(judge="dataset", tries=0)] * candidates.num_rows


def shard_counts(preferences: pa.Table) -> Counts:
    """Outcomes of a PREFERENCES table."""
    outcomes = pc.struct_field(preferences["preference"], "outcome").to_pylist()
    reasons = pc.struct_field(preferences["preference"], "reason").to_pylist()
    return Counts(
        prompts=len(outcomes),
        pairs=outcomes.count("pair"),
        ties=outcomes.count("tie"),
        dropped=outcomes.count("dropped"),
        identical=reasons.count(IDENTICAL),
    )


def strengths_of(judgement: Judgement) -> dict[int, float]:
    """Strength of each candidate that takes part, in candidate order: its score, else its mean win probability over others.

    A candidate takes part when it has a score, or when at least one of its win probabilities is known; the mean is over
    those. Means are rounded to 12 decimals, so that the order of a sum cannot break a tie.
    """
    if judgement.scores is not None:
        return {i: score for i, score in enumerate(judgement.scores) if score is not None}
    count = len(judgement.wins or ())
    known = {i: [p for j in range(count) if j != i and (p := win(judgement, i, j)) is not None] for i in range(count)}
    return {i: round(math.fsum(wins) / len(wins), 12) for i, wins in known.items() if wins}


def win(judgement: Judgement, i: int, j: int) -> float | None:
    """P(candidate i beats candidate j), None where unknown.

    Against itself ½. From the win matrix where there is one, by the opposite entry if its own is missing; else σ(s_i − s_j)
    from the scores, the Bradley-Terry model.
    """
    if i == j:
        return 0.5
    if judgement.wins is not None:
        own, opposite = judgement.wins[i][j], judgement.wins[j][i]
        return own if own is not None or opposite is None else 1 - opposite
    score_i, score_j = (judgement.scores[i], judgement.scores[j]) if judgement.scores else (None, None)
    return None if score_i is None or score_j is None else (1 + math.tanh((score_i - score_j) / 2)) / 2


def mean_win(judgement: Judgement, i: int) -> float | None:
    """Mean of P(i beats j) over the candidates j for which it is known, i itself at ½ among them; None when unjudged."""
    if judgement.failed:
        return None
    count = len(judgement.wins if judgement.wins is not None else judgement.scores or ())
    wins = [p for j in range(count) if (p := win(judgement, i, j)) is not None]
    return math.fsum(wins) / len(wins)


def _select(row: Row, judgement: Judgement, strengths: Mapping[int, float], seed: int) -> _Selection:
    best = _best(strengths, judgement.tolerance)
    rest = {i: strength for i, strength in strengths.items() if i != best}
    match row.pairing:
        case "best_worst":
            other = _worst(rest, judgement.tolerance)
        case "best_second":
            other = _best(rest, judgement.tolerance)
        case "best_random":
            other = list(rest)[seed % len(rest)]
        case "max_margin":
            if judgement.wins is not None:
                return _surest(judgement)
            other = _worst(rest, judgement.tolerance)
        case "given":
            raise AssertionError("pairing `given` selects nothing")
        case _:
            assert_never(row.pairing)
    return _Selection(best, other, strengths[best] - strengths[other])


def _best(strengths: Mapping[int, float], tolerance: float) -> int:
    """The first candidate with the greatest strength."""
    greatest = max(strengths.values())
    return next(i for i, strength in strengths.items() if greatest - strength <= tolerance)


def _worst(strengths: Mapping[int, float], tolerance: float) -> int:
    """The last candidate with the least strength."""
    least = min(strengths.values())
    return next(i for i in reversed(list(strengths)) if strengths[i] - least <= tolerance)


def _surest(judgement: Judgement) -> _Selection:
    """The pair with the greatest P(i beats j), the first in candidate order among equals.

    Its margin is P(i beats j) − P(j beats i), not a difference of means: in a cycle all means are equal, and yet each pair
    is decided.
    """
    known = {
        (i, j): p
        for i, j in permutations(range(len(judgement.wins or ())), 2)
        if (p := win(judgement, i, j)) is not None
    }
    greatest = max(known.values())
    i, j = next(pair for pair, p in known.items() if greatest - p <= judgement.tolerance)
    return _Selection(i, j, round(known[i, j] - known[j, i], 12))


def _settle(
    row: Row,
    selection: _Selection,
    judgement: Judgement,
    comparators: tuple[int, ...],
    texts: Sequence[str],
    tie_margin: float,
) -> Preference:
    """Pair, tie or dropped. Equal texts have no preference to learn, so they are never a pair, with ties: first neither."""
    chosen, rejected, margin = selection
    identical, tied = texts[chosen] == texts[rejected], margin <= max(tie_margin, judgement.tolerance)
    reason = IDENTICAL if identical else TIED if tied else None
    if reason and row.ties == "drop":
        return Preference("dropped", reason=reason)
    masked = identical or (tied and row.ties == "mask")
    if tied and row.ties == "first":
        chosen, rejected = min(chosen, rejected), max(chosen, rejected)
    return Preference(
        outcome="tie" if masked else "pair",
        chosen=chosen,
        rejected=rejected,
        comparators=comparators,
        label=0.5 if masked else 1.0,
        weight=0.0 if masked else 1.0,
        wins_chosen=mean_win(judgement, chosen),
        wins_rejected=mean_win(judgement, rejected),
        reason=reason if masked else None,
    )


def _check(judgement: Judgement, count: int) -> None:
    """Refuses a judgement of another number of candidates, and values that cannot be compared."""
    rows = [judgement.scores] if judgement.scores is not None else []
    wins = judgement.wins if judgement.wins is not None else ()
    sizes = [len(values) for values in [*rows, *wins]] + ([len(wins)] if judgement.wins is not None else [])
    if any(size != count for size in sizes):
        raise JudgeError(
            f"judge {judgement.judge} answered for {sorted(set(sizes) - {count})} candidates where the prompt has {count}; "
            "return one score, or one row and column of win probabilities, for each candidate in its order"
        )
    scores_fine = all(score is None or math.isfinite(score) for score in judgement.scores or ())
    wins_fine = all(p is None or 0 <= p <= 1 for values in wins for p in values)
    if not (scores_fine and wins_fine):
        raise JudgeError(
            f"judge {judgement.judge} returned scores {judgement.scores}, win probabilities {judgement.wins}; scores are "
            "finite, probabilities between 0 and 1, and what is unknown is None"
        )


def _status(row: Row, judgement: Judgement) -> str:
    if not row.judged:
        return "given"
    return "failed" if judgement.failed else "judged"


def _each(table: pa.Table, field: str) -> Iterator[list[Any]]:
    """One field of the candidates, a list per prompt; token ids are not touched."""
    values = iter(pc.struct_field(pc.list_flatten(table["candidates"]), field).to_pylist())
    for count in pc.list_value_length(table["candidates"]).to_pylist():
        yield list(islice(values, count))
