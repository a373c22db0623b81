"""Why prompts have no pair, as far as their rows show it, and what is likely behind it. Pure; no torch.

The trainer counts each window's prompts by cause, as metrics `no_pair/…`; the driver's watch, the report and nobody else put
the counts into words. A prompt counts once, under the first cause that fits, so that the counts add up to the prompts without a
pair."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from xpo_ray.preferences import IDENTICAL

PREFIX = "no_pair/"
CAUSES = {
    "judge_failed": "the judge failed; the table of preferences has its reasons",
    "empty": "all responses are empty: the model ends at once. Look at the chat template, model.end_of_turn and the model",
    "same_text": "chosen and rejected have the same text. Look at the data; where draws are alike, at sampling.temperature",
    "one_score": "the judge gave one and the same score to every response of every prompt: it is constant",
    "equal_scores": "the judge gave chosen and rejected the same score: it does not tell them apart",
    "within_margin": "scores differ by no more than judge.tie_margin, or the judge's own rounding: lower judge.tie_margin",
    "one_judged": "fewer than two responses were judged",
}
"""In words."""


def missing_pairs(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Prompts without a pair by cause, as metrics; rows as in shards.SCORED. Nothing where every prompt has a pair."""
    found = Counter(_cause(row) for row in rows if row["preference"]["outcome"] != "pair")
    told = {value for row in rows for value in _values(row["judgement"])}
    if len(told) == 1 and found["equal_scores"] > 1:
        found["one_score"] = found.pop("equal_scores")
    return {f"{PREFIX}{cause}": float(count) for cause, count in found.items() if count}


def likely_causes(metrics: Mapping[str, float]) -> str:
    """The causes of missing pairs in words, the most frequent first."""
    counts = {cause: metrics[PREFIX + cause] for cause in CAUSES if metrics.get(PREFIX + cause)}
    order = sorted(counts, key=lambda cause: -counts[cause])
    return "; ".join(f"{CAUSES[cause]} ({_prompts(counts[cause])})" for cause in order)


def _prompts(count: float) -> str:
    return f"{count:.0f} prompt" + ("" if count == 1 else "s")


def _cause(row: dict[str, Any]) -> str:
    judgement, preference = row["judgement"], row["preference"]
    texts = {c["text"] for c in row["candidates"]}
    if judgement["status"] == "failed":
        return "judge_failed"
    if not any(text.strip() for text in texts):
        return "empty"
    if len(texts) == 1 or preference["reason"] == IDENTICAL:
        return "same_text"
    values = _values(judgement)
    if len(values) < 2:
        return "one_judged"
    chosen, rejected, scores = preference["chosen"], preference["rejected"], judgement["scores"]
    decided = values if chosen is None or scores is None else [scores[chosen], scores[rejected]]
    return "equal_scores" if len(set(decided)) == 1 else "within_margin"


def _values(judgement: dict[str, Any]) -> list[float]:
    """Scores, or win probabilities over other candidates, as far as they are known."""
    if judgement["wins"] is None:
        return [score for score in judgement["scores"] or () if score is not None]
    return [p for i, row in enumerate(judgement["wins"]) for j, p in enumerate(row) if i != j and p is not None]
