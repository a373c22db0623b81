"""The judge that is a named Ray actor of the user's. What it is called with and what it answers: `ActorJudge` in the spec.

The judge's actor opens it; it lives in the actors' layer as the only judge that needs Ray. Rules: the actor is looked up anew
for every try, so that one that was started again is found, and waited for until it answers Ray; where that takes longer than
`patience_s` in all, the judge raises JudgeUnreachable. A call that raised, was late, lost its actor, or answered what does not
fit has failed, for its own comparisons alone. Batches that failed in the last try are asked once more one by one, so that a
poisoned prompt does not take the others along. Nothing here starts, restarts or ends the user's actor.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges.judgement import Comparison, Judgement
from xpo_ray.judges.returned import judgement_of
from xpo_ray.judges.worker import listed
from xpo_ray.spec.judge import ActorJudge

Group = tuple[int, ...]
REASON_CHARACTERS = 2000


class NamedActor:
    """A Judge whose answers come from an actor that the user runs."""

    def __init__(self, spec: ActorJudge) -> None:
        self.spec = spec
        self._name = f"actor:{spec.namespace}/{spec.name}"
        self._away = False
        """It was out of reach the last time: where the run goes on without it, no shard waits for it again."""

    def judge(self, comparisons: Sequence[Comparison]) -> list[Judgement]:
        """One Judgement per comparison; failed ones say why. Raises JudgeUnreachable where the actor stays away."""
        try:
            told = self._told(comparisons, Lookup(self.spec, 0.0 if self._away else self.spec.patience_s))
        except JudgeUnreachable:
            self._away = True
            raise
        self._away = False
        return told

    def _told(self, comparisons: Sequence[Comparison], lookup: "Lookup") -> list[Judgement]:
        said = dict.fromkeys(range(len(comparisons)), Judgement(self._name, reason="not tried"))
        tries: Counter[int] = Counter()
        for size in self._rounds():
            still_open = [index for index, judgement in said.items() if judgement.failed]
            if not still_open:
                break
            groups = [tuple(still_open[i : i + size]) for i in range(0, len(still_open), size)]
            said |= Round(self.spec, self._name, comparisons).tried(lookup.actor(), groups)
            tries.update(still_open)
        return [replace(judgement, tries=tries[index]) for index, judgement in said.items()]

    def close(self) -> None:
        """The actor is the user's; it stays."""

    def _rounds(self) -> list[int]:
        """For each try in turn: comparisons in one call."""
        alone = [1] if self.spec.batch > 1 else []
        return [self.spec.batch] * (self.spec.retries + 1) + alone


@dataclass
class Lookup:
    """Finds the actor, and waits while it is absent or does not answer; `patience_s` is what is left for that."""

    spec: ActorJudge
    patience_s: float

    def actor(self) -> Any:
        """A handle of the actor, which has just answered Ray. Raises JudgeUnreachable."""
        pauses = 0
        while isinstance(found := self._found(), str):
            if self.patience_s <= 0.0:
                raise JudgeUnreachable(self._refusal(found))
            pause_s = min(self.spec.pause_s(pauses), self.patience_s)
            self.patience_s -= pause_s
            pauses += 1
            time.sleep(pause_s)
        return found

    def _found(self) -> Any:
        """The actor, or what is wrong with it. Each look takes a part of the patience."""
        try:
            actor = ray.get_actor(self.spec.name, namespace=self.spec.namespace)
        except ValueError:
            return "there is none on this run's Ray cluster"
        began, ready = time.monotonic(), actor.__ray_ready__.remote().future()
        done, _ = wait([ready], max(self.patience_s, self.spec.timeout_s))
        self.patience_s -= time.monotonic() - began
        if not done:
            return "it is stuck in a call"
        error = ready.exception()
        return actor if error is None else f"it is dead or starts again: {_lines(error)[0]}"

    def _refusal(self, why: str) -> str:
        name, namespace = self.spec.name, self.spec.namespace
        return (
            f"the judge is the actor named {name!r} in namespace {namespace!r}, and {why}, for longer than judge.patience_s "
            f"{self.spec.patience_s:g}. Start it there with .options(name={name!r}, namespace={namespace!r}, "
            "lifetime='detached')"
        )


@dataclass
class Call:
    """A call under way."""

    group: Group
    ref: Any
    deadline: float


@dataclass
class Round:
    """One try of some comparisons."""

    spec: ActorJudge
    name: str
    comparisons: Sequence[Comparison]
    said: dict[int, Judgement] = field(default_factory=dict)

    def tried(self, actor: Any, groups: Sequence[Group]) -> dict[int, Judgement]:
        """A judgement for every comparison of the groups, each of which is one call."""
        method = getattr(actor, self.spec.method, None)
        if method is None:
            every = [index for group in groups for index in group]
            self._fail(
                every, f"the actor {self._who} has no method `{self.spec.method}`; define it, or set judge.method"
            )
            return self.said
        waiting, running = deque(groups), dict[Future[Any], Call]()
        while waiting or running:
            while waiting and len(running) < self.spec.concurrency:
                if (call := self._sent(method, waiting.popleft())) is not None:
                    running[call.ref.future()] = call
            if running:
                self._take_answers(running)
        return self.said

    @property
    def _who(self) -> str:
        return f"named {self.spec.name!r} in namespace {self.spec.namespace!r}"

    def _sent(self, method: Any, group: Group) -> Call | None:
        """The call under way; None where Ray does not take it, as the method has other parameters."""
        try:
            ref = method.remote(*self._arguments(group))
        except (TypeError, RayError) as error:
            self._fail(group, f"`{self.spec.method}` of the actor {self._who} cannot be called: {_lines(error)[-1]}")
            return None
        return Call(group, ref, time.monotonic() + self.spec.timeout_s)

    def _arguments(self, group: Group) -> tuple[Any, ...]:
        asked = [self.comparisons[index] for index in group]
        if self.spec.method == "judge":
            return ([_plain(comparison) for comparison in asked],)
        (one,) = asked
        return [dict(turn) for turn in one.prompt], [response.text for response in one.responses]

    def _take_answers(self, running: dict["Future[Any]", Call]) -> None:
        """Wait for an answer or for a call that is late, and take all that have come."""
        earliest = min(call.deadline for call in running.values())
        done, _ = wait(running, max(0.0, earliest - time.monotonic()), FIRST_COMPLETED)
        for future in done:
            self._read(running.pop(future).group, future)
        now = time.monotonic()
        for late in [future for future, call in running.items() if call.deadline <= now]:
            call = running.pop(late)
            ray.cancel(call.ref)
            self._fail(call.group, f"the actor gave no answer within {self.spec.timeout_s:g} s; the call was cancelled")

    def _read(self, group: Group, future: "Future[Any]") -> None:
        try:
            returned = future.result()
        except RayTaskError as error:
            self._fail(group, f"the actor raised {_lines(error)[-1]}")
        except RayActorError as error:
            self._fail(group, f"the actor {self._who} died in the call, or before it. Ray: {_lines(error)[0]}")
        except RayError as error:
            self._fail(group, f"Ray lost the call: {type(error).__name__}: {_lines(error)[0]}")
        else:
            self._judged(group, returned)

    def _judged(self, group: Group, returned: object) -> None:
        if self.spec.method == "score":
            answers: Sequence[object] = [returned]
        else:
            try:
                answers = listed(returned, len(group), "answers, one per comparison")
            except ValueError as error:
                self._fail(group, str(error))
                return
        for index, answer in zip(group, answers, strict=True):
            count = len(self.comparisons[index].responses)
            self.said[index] = judgement_of(self.name, answer, count)

    def _fail(self, group: Sequence[int], reason: str) -> None:
        failed = Judgement(self.name, reason=reason[:REASON_CHARACTERS])
        self.said |= dict.fromkeys(group, failed)


def _plain(comparison: Comparison) -> dict[str, Any]:
    """Lists and dicts alone, so that the actor needs nothing of ours to read it."""
    return {
        "prompt": [dict(turn) for turn in comparison.prompt],
        "responses": [{"text": response.text, "ended": response.ended} for response in comparison.responses],
    }


def _lines(error: BaseException) -> list[str]:
    """What an error says; the last line of a traceback is what was raised."""
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
