"""What judges read and return (DESIGN §4.7). Plain data; no torch, no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable


class Message(TypedDict):
    """One turn of a conversation; roles are user, assistant or system."""

    role: str
    content: str


@dataclass(frozen=True)
class Response:
    """A candidate as a judge sees it: text, never token ids, because a judge has a tokenizer of its own."""

    text: str
    ended: bool = True
    """It has its EOS, that is, it was not cut at the length limit."""


@dataclass(frozen=True)
class Comparison:
    """One prompt and its K candidates, in the stated order that settles ties."""

    prompt: tuple[Message, ...]
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Judgement:
    """A judge's answer for one prompt: scores[K] (higher is better) or wins[K][K] = P(row beats column).

    Entries may be None: a candidate without a score takes no part in the pairing. A failed judgement has neither scores nor
    wins, and a reason; it is never a score.
    """

    judge: str
    scores: tuple[float | None, ...] | None = None
    wins: tuple[tuple[float | None, ...], ...] | None = None
    reason: str | None = None
    tries: int = 1
    disagreement: float | None = None
    """Of an ensemble: the weighted share of its members that do not put its best candidate above its worst, ties half."""
    rounding: float = 0.0
    """Of a judge that computes and knows its own rounding: how far a score may be moved by the batch that it was computed in,
    relative to its size or to 1 where that is less; 0 where scores are compared as they are given."""

    @property
    def tolerance(self) -> float:
        """A difference of two of these scores, or of win probabilities, that is no larger is rounding, and so a tie."""
        sizes = [abs(score) for score in self.scores or () if score is not None]
        return self.rounding * max(1.0, *sizes) if sizes else self.rounding

    @property
    def failed(self) -> bool:
        return self.scores is None and self.wins is None


class Judge(Protocol):
    """Scores or ranks candidates. `judge` returns one Judgement per comparison, in order, and raises only JudgeError, or
    JudgeUnreachable where its endpoint or actor is out of reach and waiting can help."""

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]: ...

    def close(self) -> None: ...


@runtime_checkable
class Metered(Protocol):
    """A judge that counts what it takes: requests, tokens, money."""

    def take_counts(self) -> dict[str, float]:
        """By name, since the last time it was asked."""


def counts_of(judge: Judge) -> dict[str, float]:
    """What a judge has counted since it was last asked; nothing where it does not count."""
    return judge.take_counts() if isinstance(judge, Metered) else {}


@runtime_checkable
class Remarking(Protocol):
    """A judge that may work otherwise than its spec lets expect, and says so."""

    def take_remarks(self) -> dict[str, str]:
        """A message for each code, since the last time it was asked."""


def remarks_of(judge: Judge) -> dict[str, str]:
    """What a judge has to say since it was last asked; nothing where all is as expected."""
    return judge.take_remarks() if isinstance(judge, Remarking) else {}
