"""The judge that is a user's Python function, run in a process of its own.

Rules. One try of a prompt is one call; the function is tried `retries` more times on the prompts that failed, after all
others had their try. With `batched`, one try is one call with all prompts that are still open; those that fail in the
last batched try are then called ONE BY ONE, once, so that a poisoned prompt does not take the others along.
A process that hangs or dies is ended and started anew. With one call in flight, that call failed; with several, nobody
can tell which is to blame, so each of them is called again alone, and only what happens then counts.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xpo_ray.errors import JudgeError
from xpo_ray.judges.calls import Answer, Call, Reply, Setup
from xpo_ray.judges.child import Child, Lost
from xpo_ray.judges.judgement import Comparison, Judgement
from xpo_ray.judges.plugins import locate
from xpo_ray.spec.judge import PythonJudge

START_TIMEOUT_S = 600.0
"""To import the user's module, which may load a model."""
SILENCE_GRACE_S = 1.0
"""Async calls end themselves at the time limit; a process that is silent for this much longer hangs as a whole."""

Group = tuple[int, ...]


def check_python_judge(spec: PythonJudge, folder: Path) -> Path:
    """The file of the judge, once a process of its own has imported it and found the function. Raises JudgeError."""
    child = Child(_setup(spec, folder), START_TIMEOUT_S)
    child.end()
    return Path(child.file)


def source_digest(spec: PythonJudge, folder: Path) -> str:
    """sha256 of the judge's source file, as hex, for the run's record. Runs none of it. Raises JudgeError."""
    return hashlib.sha256(locate(spec.function, folder).read_bytes()).hexdigest()


def _setup(spec: PythonJudge, folder: Path) -> Setup:
    return Setup(spec.function, str(folder.resolve()), spec.batched, spec.timeout_s, os.environ.get("PYTHONPATH"))


@dataclass
class Docket:
    """One try of every group of comparisons: which wait, are in flight, or are suspects. Decides; does no I/O."""

    waiting: deque[Group]
    width: int
    """Calls in flight at once."""
    answers: dict[int, Answer] = field(default_factory=dict)
    _in_flight: dict[int, Group] = field(default_factory=dict)
    _suspects: deque[Group] = field(default_factory=deque)
    _alone: bool = False
    _calls: int = 0

    @property
    def done(self) -> bool:
        return not (self.waiting or self._in_flight or self._suspects)

    @property
    def idle(self) -> bool:
        return not self._in_flight

    def to_send(self) -> Iterator[tuple[int, Group]]:
        """Number and group of every call that may start now; suspects first, and each of them alone."""
        while (self._suspects or self.waiting) and self._has_room():
            self._alone = bool(self._suspects)
            group = (self._suspects or self.waiting).popleft()
            self._calls += 1
            self._in_flight[self._calls] = group
            yield self._calls, group

    def _has_room(self) -> bool:
        if self._suspects:
            return not self._in_flight
        return not self._in_flight or (len(self._in_flight) < self.width and not self._alone)

    def answered(self, reply: Reply) -> None:
        self.answers |= zip(self._in_flight.pop(reply.number), reply.answers, strict=True)

    def lost(self, reason: str) -> None:
        """The process is gone. A call that was alone in it has failed; several are suspects."""
        groups = list(self._in_flight.values())
        self._in_flight.clear()
        if len(groups) > 1:
            self._suspects.extend(groups)
        else:
            self.answers |= {index: Answer(reason=f"the process {reason}") for group in groups for index in group}


class PythonFunction:
    """A Judge whose scores come from the user's function. Raises JudgeError where that cannot be imported."""

    def __init__(self, spec: PythonJudge, folder: Path, start_timeout_s: float = START_TIMEOUT_S) -> None:
        self._spec = spec
        self._folder = folder
        self._start_timeout_s = start_timeout_s
        self._name = f"python:{spec.function}"
        self._digest = source_digest(spec, folder)
        self._child = Child(_setup(spec, folder), start_timeout_s)

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison. Raises JudgeError only where the function can no longer be imported."""
        answers = dict.fromkeys(range(len(comparisons)), Answer(reason="not tried"))
        tries: Counter[int] = Counter()
        try:
            for whole in self._rounds():
                still_open = tuple(index for index, answer in answers.items() if answer.scores is None)
                groups = [still_open] if whole and still_open else [(index,) for index in still_open]
                answers |= self._tried(comparisons, groups)
                tries.update(still_open)
        except BaseException:
            self._child.end()  # a reply to this call must not be taken for one to the next
            raise
        return [Judgement(self._name, answers[i].scores, None, answers[i].reason, tries[i]) for i in sorted(answers)]

    def close(self) -> None:
        self._child.end()

    def _rounds(self) -> Sequence[bool]:
        """For each try in turn: all open comparisons in one call?"""
        tries = self._spec.retries + 1
        return (True,) * tries + (False,) if self._spec.batched else (False,) * tries

    def _tried(self, comparisons: Sequence[Comparison], groups: Sequence[Group]) -> dict[int, Answer]:
        docket = Docket(deque(groups), self._spec.concurrency if self._child.concurrent else 1)
        while not docket.done:
            if docket.idle:
                self._revive()
            for number, group in docket.to_send():
                self._child.send(Call(number, tuple(comparisons[index] for index in group)))
            replies = self._child.replies(self._silence_s)
            if isinstance(replies, Lost):
                docket.lost(replies.reason)
                continue
            for reply in replies:
                docket.answered(reply)
        return docket.answers

    @property
    def _silence_s(self) -> float:
        return self._spec.timeout_s + (SILENCE_GRACE_S if self._child.concurrent else 0.0)

    def _revive(self) -> None:
        """Start a new process where the last one has ended, in a call or between calls."""
        if not self._child.alive:
            self._child.end()
            self._refuse_other_source()
            self._child = Child(_setup(self._spec, self._folder), self._start_timeout_s)

    def _refuse_other_source(self) -> None:
        if (digest := source_digest(self._spec, self._folder)) != self._digest:
            raise JudgeError(
                f"judge.function {self._spec.function}: {self._child.file} changed while the run was going on "
                f"(sha256 was {self._digest}, is {digest}); put the old file back, or start another run"
            )
