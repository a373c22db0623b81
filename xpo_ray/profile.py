"""Where each second of each role went: at work on what, or waiting for whom. Pure; the driver notes spans, the end adds up.

A role's process is at work while one of its calls is under way, hand-over through Ray included. Between two calls it waits:
for the nearest stage before its next work that was being worked on at that moment, else for the driver and Ray.
"""

import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Interval = tuple[float, float]

CYCLE = ("load", "draw", "collect", "prefer", "score", "step", "canary", "weights", "publish")
"""What follows what in an iteration; before `load` comes the end of the iteration before."""
WORK = {
    "load": "take weights",
    "draw": "draw",
    "collect": "lay draws together",
    "prefer": "judge",
    "score": "reference log-probs",
    "step": "step",
    "canary": "canary",
    "weights": "hand weights over",
    "publish": "commit",
    "held_out": "evaluation",
    "held_out_base": "evaluation",
    "begin": "begin",
    "ready": "start",
}
DRIVER = "driver and Ray"
PROFILE = "profile.json"
"""The file in the attempt's folder."""


@dataclass(frozen=True)
class Span:
    """A call to one process of a role, in seconds of the driver's clock; `inside` is the part spent in its own code."""

    role: str
    verb: str
    began: float
    ended: float
    inside: float | None = None


@dataclass
class Stopwatch:
    """Collects spans while a run goes on; None where nobody asked for a profile."""

    spans: list[Span] | None = None
    began: float = field(default_factory=time.monotonic)

    def note(self, role: str, verb: str, began: float, answer: object) -> None:
        """A call has come back."""
        if self.spans is not None:
            inside = getattr(answer, "seconds", None)
            self.spans.append(Span(role, verb, began, time.monotonic(), inside))

    def profile(self) -> "Profile | None":
        """The profile of everything so far."""
        return None if self.spans is None else profile_of(self.spans, self.began, time.monotonic())


@dataclass(frozen=True)
class RoleProfile:
    """Seconds of one process: by kind of work, of which in Ray and hand-over, and by whom it waited for."""

    role: str
    work: dict[str, float]
    hand_over: float
    """Part of the work that was spent between the driver and the process's own code."""
    waiting: dict[str, float]
    calls: int

    @property
    def busy(self) -> float:
        return sum(self.work.values())


@dataclass(frozen=True)
class Profile:
    """Seconds of a whole attempt."""

    seconds: float
    roles: tuple[RoleProfile, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def profile_of(spans: Sequence[Span], began: float, ended: float) -> Profile:
    """Add spans up; every process is accounted for from `began` to `ended`."""
    active = {verb: _union((s.began, s.ended) for s in spans if s.verb == verb) for verb in {s.verb for s in spans}}
    by_role: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda s: s.began):
        by_role[span.role].append(span)
    roles = tuple(_role(role, own, active, began, ended) for role, own in sorted(by_role.items()))
    return Profile(ended - began, roles)


def _role(
    role: str, spans: Sequence[Span], active: dict[str, list[Interval]], began: float, ended: float
) -> RoleProfile:
    work: dict[str, float] = defaultdict(float)
    waiting: dict[str, float] = defaultdict(float)
    hand_over, now = 0.0, began
    for span in spans:
        for whom, seconds in _waited((now, span.began), span.verb, active):
            waiting[whom] += seconds
        work[WORK.get(span.verb, span.verb)] += max(span.ended - max(span.began, now), 0.0)
        if span.inside is not None:
            hand_over += max(span.ended - span.began - span.inside, 0.0)
        now = max(now, span.ended)
    if ended > now:
        waiting["the end of the run"] += ended - now
    return RoleProfile(role, dict(work), hand_over, dict(waiting), len(spans))


def _waited(gap: Interval, verb: str, active: dict[str, list[Interval]]) -> list[tuple[str, float]]:
    """Share a gap out among the stages before `verb`, the nearest first."""
    left, out = [gap] if gap[1] > gap[0] else [], []
    for before in _upstream(verb):
        taken, left = _cut(left, active.get(before, []))
        if taken > 0.0:
            out.append((WORK[before], taken))
    if rest := sum(stop - start for start, stop in left):
        out.append((DRIVER, rest))
    return out


def _upstream(verb: str) -> tuple[str, ...]:
    """The stages before a verb, the nearest first, once around."""
    place = CYCLE.index(verb) if verb in CYCLE else 0
    return tuple(v for v in (*reversed(CYCLE[:place]), *reversed(CYCLE[place:])) if v not in (verb, "publish"))


def _union(intervals: Iterable[Interval]) -> list[Interval]:
    out: list[Interval] = []
    for start, stop in sorted(intervals):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], stop))
        else:
            out.append((start, stop))
    return out


def _cut(intervals: Sequence[Interval], by: Sequence[Interval]) -> tuple[float, list[Interval]]:
    """Seconds of `intervals` that lie in `by`, and what is left of them; `by` is sorted and disjoint."""
    taken, left = 0.0, []
    for start, stop in intervals:
        now = start
        for other_start, other_stop in by[max(bisect_right(by, (start, float("inf"))) - 1, 0) :]:
            if other_start >= stop:
                break
            if other_stop <= now:
                continue
            if other_start > now:
                left.append((now, other_start))
            taken += min(other_stop, stop) - max(other_start, now)
            now = min(other_stop, stop)
        if now < stop:
            left.append((now, stop))
    return taken, left
