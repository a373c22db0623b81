"""Answers that a judge has given before: `open_judge` puts one of these around a judge whose spec has `cache_entries`.

Kept in the process of one replica, up to a number of entries, the least recently used one first to go. Not in a file: replicas
on several nodes would write into one at once, on a folder that may be on a network; and what a dead replica had judged is
committed shard by shard, so that at most the shards under way are asked again. Kept are digests and answers, no texts. A
failed judgement and a missing score are never kept: another try may give one.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Generic, TypeVar

from xpo_ray.judges.judgement import Comparison, Judge, Judgement, Response, counts_of, remarks_of

HITS = "cached_responses"
Value = TypeVar("Value")
Key = bytes
Scores = dict[Response, float]


class Recent(Generic[Value]):
    """A mapping that holds the `entries` most recently used values."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        if key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._entries:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


def key_of(comparison: Comparison) -> Key:
    """sha256 of a prompt and its responses, in their order."""
    responses = [asdict(response) for response in comparison.responses]
    text = json.dumps([comparison.prompt, responses], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


class Cached:
    """What both caches share: the judge behind, and the count of responses that it was not asked about."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._hits = 0

    def take_counts(self) -> dict[str, float]:
        """`cached_responses`, and the counts of the judge behind."""
        behind, hits = counts_of(self._judge), self._hits
        self._hits = 0
        return behind | {HITS: behind.get(HITS, 0.0) + hits}

    def take_remarks(self) -> dict[str, str]:
        """Those of the judge behind."""
        return remarks_of(self._judge)

    def close(self) -> None:
        self._judge.close()

    def _asked(self, comparisons: dict[Key, Comparison]) -> dict[Key, Judgement]:
        """The judge's answers; each different comparison is asked for once."""
        if not comparisons:
            return {}
        return dict(zip(comparisons, self._judge.judge(list(comparisons.values())), strict=True))


class CachedJudgements(Cached):
    """Of whole comparisons, for a judge that reads the candidates beside each other: other company or order is asked anew."""

    def __init__(self, judge: Judge, entries: int) -> None:
        super().__init__(judge)
        self._known = Recent[Judgement](entries)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison, as the judge gave it now or before."""
        keys = [key_of(comparison) for comparison in comparisons]
        said = {key: known for key in dict.fromkeys(keys) if (known := self._known.get(key)) is not None}
        to_ask = {key: c for key, c in zip(keys, comparisons, strict=True) if key not in said}
        self._hits += _responses(comparisons) - _responses(to_ask.values())
        for key, judgement in self._asked(to_ask).items():
            said[key] = judgement
            if not judgement.failed:
                self._known.put(key, judgement)
        return [said[key] for key in keys]


class CachedScores(Cached):
    """Of single responses, for a judge whose score of one does not depend on the others: only new ones are asked for."""

    def __init__(self, judge: Judge, entries: int) -> None:
        super().__init__(judge)
        self._known = Recent[float](entries)
        self._name = ""
        self._rounding = 0.0

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison; it fails where the judgement of its new responses does."""
        known = [self._found(comparison) for comparison in comparisons]
        rests = [_without(c, scores) for c, scores in zip(comparisons, known, strict=True)]
        to_ask = {key_of(rest): rest for rest in rests if rest.responses}
        self._hits += _responses(comparisons) - _responses(to_ask.values())
        said = self._asked(to_ask)
        answers = [said.get(key_of(rest)) for rest in rests]
        return [self._whole(*each) for each in zip(comparisons, known, rests, answers, strict=True)]

    def _found(self, comparison: Comparison) -> Scores:
        keys = {r: key_of(Comparison(comparison.prompt, (r,))) for r in comparison.responses}
        return {r: score for r, key in keys.items() if (score := self._known.get(key)) is not None}

    def _whole(self, comparison: Comparison, known: Scores, rest: Comparison, answer: Judgement | None) -> Judgement:
        """The judgement of all responses from what was known and what the judge said about the rest."""
        if answer is None:
            return Judgement(self._name, tuple(known[r] for r in comparison.responses), rounding=self._rounding)
        if answer.scores is None:
            return answer
        self._name, self._rounding = answer.judge, answer.rounding
        new = {r: s for r, s in zip(rest.responses, answer.scores, strict=True) if s is not None}
        for response, score in new.items():
            self._known.put(key_of(Comparison(comparison.prompt, (response,))), score)
        scores = known | new
        given = tuple(scores.get(r) for r in comparison.responses)
        return Judgement(answer.judge, given, tries=answer.tries, rounding=answer.rounding)


def _without(comparison: Comparison, known: Scores) -> Comparison:
    """The responses whose scores are not known, each once."""
    return Comparison(comparison.prompt, tuple(r for r in dict.fromkeys(comparison.responses) if r not in known))


def _responses(comparisons: Iterable[Comparison]) -> int:
    return sum(len(comparison.responses) for comparison in comparisons)
