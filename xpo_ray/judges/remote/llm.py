"""The judge that is a language model behind an OpenAI-compatible endpoint: `judge: {kind: llm}`.

`pairwise` asks for every pair in both orders: P(i beats j) is the mean of what the two say, so that a bias for a place gives a
tie; where one of them is missing, so is the probability. `scored` asks for each response alone. Equal texts are asked for
once, and tie. Up to `cache_entries` answers are kept, one for each question, so that it is not paid for twice: an evaluation
asks for a pair in both orders of its candidates, which are the same questions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from xpo_ray.judges.cache import Recent
from xpo_ray.judges.judgement import Comparison, Judgement
from xpo_ray.judges.remote import completions
from xpo_ray.judges.remote.caller import Caller
from xpo_ray.judges.remote.meter import Meter
from xpo_ray.judges.remote.outcomes import Answered, Failed, Request, Unreadable
from xpo_ray.judges.remote.reach import refuse_unreachable
from xpo_ray.judges.remote.templates import messages, template_of
from xpo_ray.spec.remote_judge import LlmJudge

Texts = tuple[str, ...]
"""One response, or two in the order in which they are shown."""
Said = Mapping[Texts, Answered[float] | Failed]


@dataclass(frozen=True)
class Read:
    """A comparison's judgement, and why the endpoint was out of reach for a part of it, where it was."""

    judgement: Judgement
    away: str | None


class LlmEndpoint:
    """A Judge that asks a language model. Raises JudgeError where token or template are not there."""

    def __init__(self, spec: LlmJudge, folder: Path) -> None:  # noqa: ARG002 - as all judges are opened
        self._spec = spec
        self._template = template_of(spec)
        self._name = f"llm:{spec.model}"
        self._meter = Meter(spec)
        self._kept = Recent[float](spec.cache_entries)
        self._hits = 0
        self._caller = Caller(spec, completions.endpoint_of(spec.url))

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison. Raises JudgeUnreachable where the endpoint was out of reach for too long."""
        asked = [(each, texts) for each in comparisons for texts in self._questions(each)]
        outcomes = iter(self._answers([self._body(each, texts) for each, texts in asked]))
        said = [{texts: next(outcomes) for texts in self._questions(each)} for each in comparisons]
        read = [self._read(each, answers) for each, answers in zip(comparisons, said, strict=True)]
        told = [each.judgement for each in read]
        refuse_unreachable(self._spec, told, [each.away for each in read], down=self._caller.down)
        return told

    def close(self) -> None:
        self._caller.close()

    def take_counts(self) -> dict[str, float]:
        """Requests, questions whose answer was known, tokens and cost since the last time it was asked."""
        known, self._hits = {"judge_known_answers": float(self._hits)}, 0
        return self._caller.take_counts() | known | self._meter.take()

    def _questions(self, comparison: Comparison) -> list[Texts]:
        different = list(dict.fromkeys(response.text for response in comparison.responses))
        return list(permutations(different, 2 if self._spec.mode == "pairwise" else 1))

    def _body(self, comparison: Comparison, texts: Texts) -> str:
        asked = messages(self._spec, self._template, comparison.prompt, texts)
        return json.dumps(completions.body(self._spec, asked))

    def _answers(self, bodies: Sequence[str]) -> list[Answered[float] | Failed]:
        """What is kept, and the rest from the endpoint, each question once."""
        keys = [hashlib.sha256(body.encode()).digest() for body in bodies]
        kept = {key: Answered(value, 0) for key in dict.fromkeys(keys) if (value := self._kept.get(key)) is not None}
        new = {key: body for key, body in zip(keys, bodies, strict=True) if key not in kept}
        self._hits += len(keys) - len(new)
        outcomes = self._caller.each([Request(json.loads(body), self._number) for body in new.values()])
        found = kept | dict(zip(new, outcomes, strict=True))
        for key in new:
            if isinstance(answer := found[key], Answered):
                self._kept.put(key, answer.value)
        return [found[key] for key in keys]

    def _number(self, answer: bytes) -> float:
        """What an answer says: a score, or P(first wins)."""
        completion = completions.completion(answer)
        self._meter.add(completion)
        if completion.fault is not None:
            raise Unreadable(completion.fault)
        read = completions.winner if self._spec.mode == "pairwise" else completions.score
        return read(self._spec, completion.text)

    def _read(self, comparison: Comparison, said: Said) -> Read:
        tries = max((answer.tries for answer in said.values()), default=0)
        failures = [answer for answer in said.values() if isinstance(answer, Failed)]
        away = next((failure.reason for failure in failures if failure.unreachable), None)
        texts = [response.text for response in comparison.responses]
        if failures and len(failures) == len(said):
            return Read(Judgement(self._name, reason=failures[0].reason, tries=tries), away)
        if self._spec.mode == "scored":
            return Read(Judgement(self._name, scores=tuple(_value(said[(t,)]) for t in texts), tries=tries), away)
        wins = tuple(tuple(_win(said, i, j, texts) for j in range(len(texts))) for i in range(len(texts)))
        if len(texts) > 1 and all(p is None for row in wins for p in row):
            reason = f"no pair was judged in both orders: {failures[0].reason}"
            return Read(Judgement(self._name, reason=reason, tries=tries), away)
        return Read(Judgement(self._name, wins=wins, tries=tries), away)


def _value(answer: Answered[float] | Failed) -> float | None:
    return answer.value if isinstance(answer, Answered) else None


def _win(said: Said, i: int, j: int, texts: Sequence[str]) -> float | None:
    """P(i beats j), the mean over both orders; None for a response against itself, and where an order is missing."""
    if i == j:
        return None
    if texts[i] == texts[j]:
        return 0.5
    as_first, as_second = _value(said[texts[i], texts[j]]), _value(said[texts[j], texts[i]])
    return None if as_first is None or as_second is None else (as_first + 1 - as_second) / 2
