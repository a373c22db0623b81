"""The judge that is an HTTP endpoint: `judge: {kind: http}`, in one of three formats.

Comparisons go in batches. Of a batch that was refused or answered with what cannot be used, each comparison is sent once more
alone, so that a poisoned one does not take the others along; that is not done while the endpoint is out of reach. What is
out of reach for too long raises JudgeUnreachable; everything else that fails is a failed judgement with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xpo_ray.judges.judgement import Comparison, Judgement
from xpo_ray.judges.remote import contract, rewards
from xpo_ray.judges.remote.caller import Caller
from xpo_ray.judges.remote.outcomes import Answered, Failed, Request, Unreadable
from xpo_ray.judges.remote.prompt_text import PromptText, TemplateRefused, prompt_text
from xpo_ray.judges.remote.reach import refuse_unreachable
from xpo_ray.judges.remote.verdict import Verdict
from xpo_ray.spec.remote_judge import HttpJudge

Group = tuple[int, ...]


@dataclass(frozen=True)
class Format:
    """How comparisons are sent, and what an answer says of them."""

    body: Callable[[Sequence[Comparison]], dict[str, Any]]
    read: Callable[[bytes, Sequence[Comparison]], list[Verdict]]


def format_of(spec: HttpJudge, text: PromptText) -> Format:
    """The spec's; `text` is for the one that sends texts."""
    match spec.format:
        case "xpo_ray":
            return Format(contract.body, contract.read)
        case "trl":
            return Format(rewards.trl_body, partial(rewards.read, bare=True))
        case "openrlhf":
            return Format(partial(rewards.openrlhf_body, text=text), partial(rewards.read, bare=False))


@dataclass(frozen=True)
class Tried:
    """What is known of one comparison by now."""

    verdict: Verdict
    tries: int
    unreachable: bool = False
    again: bool = False
    """Alone it may fare better."""


class HttpEndpoint:
    """A Judge whose scores or wins come from an endpoint. Raises JudgeError where its token or template is not there."""

    def __init__(self, spec: HttpJudge, folder: Path) -> None:  # noqa: ARG002 - as all judges are opened
        self._spec = spec
        self._text = prompt_text(spec)
        self._format = format_of(spec, self._text)
        self._name = f"http:{urlsplit(spec.url).netloc}"
        self._caller = Caller(spec, spec.url)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison. Raises JudgeUnreachable where the endpoint was out of reach for too long."""
        size = self._spec.batch_size
        refused = {i: fault for i, each in enumerate(comparisons) if (fault := self._fault(each)) is not None}
        rest = [i for i in range(len(comparisons)) if i not in refused]
        batches = [tuple(rest[i : i + size]) for i in range(0, len(rest), size)]
        tried = refused | self._tried(comparisons, batches)
        alone = [(i,) for group in batches if len(group) > 1 for i in group if tried[i].again]
        if alone and not self._caller.down:
            for i, later in self._tried(comparisons, alone).items():
                tried[i] = replace(later, tries=tried[i].tries + later.tries)
        told = [self._judgement(tried[i]) for i in range(len(comparisons))]
        away = [tried[i].verdict.reason if tried[i].unreachable else None for i in range(len(comparisons))]
        refuse_unreachable(self._spec, told, away, down=self._caller.down)
        return told

    def close(self) -> None:
        self._caller.close()

    def take_counts(self) -> dict[str, float]:
        """Requests and further tries since the last time it was asked."""
        return self._caller.take_counts()

    def _fault(self, comparison: Comparison) -> Tried | None:
        """Why a comparison cannot be sent at all."""
        try:
            self._text(comparison.prompt)
        except TemplateRefused as error:
            return Tried(Verdict(reason=str(error)), 0)
        return None

    def _tried(self, comparisons: Sequence[Comparison], groups: Sequence[Group]) -> dict[int, Tried]:
        outcomes = self._caller.each([self._request([comparisons[i] for i in group]) for group in groups])
        return {
            i: known
            for group, outcome in zip(groups, outcomes, strict=True)
            for i, known in zip(group, _each(outcome, len(group)), strict=True)
        }

    def _request(self, comparisons: Sequence[Comparison]) -> Request[list[Verdict]]:
        def read(answer: bytes) -> list[Verdict]:
            verdicts = self._format.read(answer, comparisons)
            if len(verdicts) == 1 and verdicts[0].lacking:
                raise Unreadable(verdicts[0].reason)
            return verdicts

        return Request(self._format.body(comparisons), read)

    def _judgement(self, tried: Tried) -> Judgement:
        verdict = tried.verdict
        return Judgement(self._name, verdict.scores, verdict.wins, verdict.reason, tried.tries)


def _each(outcome: Answered[list[Verdict]] | Failed, count: int) -> list[Tried]:
    """What a request's outcome says of each of its comparisons."""
    if isinstance(outcome, Answered):
        return [Tried(verdict, outcome.tries, again=verdict.lacking) for verdict in outcome.value]
    failed = Tried(Verdict(reason=outcome.reason), outcome.tries, outcome.unreachable, again=outcome.divisible)
    return [failed] * count
