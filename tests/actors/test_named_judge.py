"""A judge that is a named Ray actor of the user's: real actors that answer well, badly, late, or not at all."""

import asyncio
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.actors.test_judge import ROW, drawn
from xpo_ray.actors.judge import JudgeActor
from xpo_ray.actors.named_judge import NamedActor
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.watchdog import PULSE
from xpo_ray.errors import JudgeUnreachable
from xpo_ray.judges.judgement import Comparison, Judgement, Message, Response
from xpo_ray.spec.judge import ActorJudge

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

NAMESPACE = "judges of the tests"


class Scorer:
    """Scores by length, unless the first response asks for something else."""

    def score(self, prompt: list[dict[str, str]], responses: list[str]) -> Any:
        assert prompt[0]["role"] == "user"
        match responses[0]:
            case "raise":
                raise ValueError("no opinion")
            case "few":
                return [1.0]
            case "text":
                return "good"
            case "nan":
                return [math.nan, 1.0]
            case "none":
                return [1.0, None]
            case "hang":
                time.sleep(3600)
            case "die":
                os._exit(1)
        return [len(text) for text in responses]


class Ranker:
    """Takes comparisons; answers in every form, and remembers how many came at once."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def judge(self, comparisons: list[dict[str, Any]]) -> list[Any]:
        self.calls.append(len(comparisons))
        texts = [[r["text"] for r in c["responses"]] for c in comparisons]
        if any("poison" in each for each in texts):
            raise RuntimeError("poisoned")
        return [self._one(each, c) for each, c in zip(texts, comparisons, strict=True)]

    def _one(self, texts: list[str], comparison: dict[str, Any]) -> Any:
        match texts[0]:
            case "wins":
                return {"wins": [[None, 0.75], [0.25, None]]}
            case "failed":
                return {"failed": "I would rather not"}
            case "odd":
                return {"wins": [[0.5, 1.75], [0.25, 0.5]]}
            case "ended":
                return {"scores": [float(r["ended"]) for r in comparison["responses"]]}
        return [float(len(text)) for text in texts]

    def seen(self) -> list[int]:
        return self.calls


class Slow:
    """An async scorer that says how many calls it had at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def score(self, prompt: list[dict[str, str]], responses: list[str]) -> list[float]:  # noqa: ARG002
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.2)
        self.now -= 1
        return [1.0] * len(responses)

    async def seen(self) -> int:
        return self.most


Start = Callable[..., tuple[NamedActor, Any]]


@pytest.fixture
def start() -> Iterator[Start]:
    """A user's actor under a name of its own, and the judge that names it."""
    actors = []

    def started(cls: type, **settings: Any) -> tuple[NamedActor, Any]:
        name = uuid.uuid4().hex
        options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0}
        actors.append(ray.remote(cls).options(**options).remote())  # type: ignore[call-overload]
        return judge_of(name, **settings), actors[-1]

    yield started
    for actor in actors:
        ray.kill(actor)


def judge_of(name: str, **settings: Any) -> NamedActor:
    given = {"retries": 0, "retry_after_s": 0.05, "timeout_s": 30.0, "patience_s": 30.0} | settings
    return NamedActor(ActorJudge(kind="actor", name=name, namespace=NAMESPACE, **given))


def compare(*texts: str) -> Comparison:
    return Comparison((Message(role="user", content="hi"),), tuple(Response(t, not t.endswith("…")) for t in texts))


def test_an_actor_scores_prompts_with_plain_lists(start: Start) -> None:
    judge, _ = start(Scorer)
    said = judge.judge([compare("a", "bbb"), compare("cc")])
    assert [j.scores for j in said] == [(1.0, 3.0), (2.0,)]
    assert all(j.judge.startswith(f"actor:{NAMESPACE}/") and j.tries == 1 for j in said)
    assert judge.judge([]) == []


def test_answers_that_do_not_fit_are_failed_judgements_with_the_reason(start: Start) -> None:
    judge, _ = start(Scorer, retries=1)
    raised, few, text, nan, none, fine = judge.judge(
        [compare(word, "x") for word in ("raise", "few", "text", "nan", "none", "fine")]
    )
    assert (nan.scores, none.scores, fine.scores) == ((None, 1.0), (1.0, None), (4.0, 1.0))
    assert [j.tries for j in (raised, few, text, nan, fine)] == [2, 2, 2, 1, 1]
    assert raised.reason == "the actor raised ValueError: no opinion"
    assert "1 items" in (few.reason or "")
    assert "expected 2 scores" in (few.reason or "")
    assert "'good'" in (text.reason or "")


def test_an_actor_judges_comparisons_in_batches_and_in_every_form(start: Start) -> None:
    judge, actor = start(Ranker, method="judge", batch_size=3)
    asked = [compare(word, "xx…") for word in ("wins", "failed", "odd", "ended", "plain")]
    wins, failed, odd, ended, plain = judge.judge(asked)
    assert wins.wins == ((0.5, 0.75), (0.25, 0.5))
    assert failed.reason == "the judge said: I would rather not"
    assert "1.75 for a win probability; expected a number from 0 to 1" in (odd.reason or "")
    assert ended.scores == (1.0, 0.0)
    assert plain.scores == (5.0, 3.0)
    assert ray.get(actor.seen.remote()) == [3, 2, 1, 1]


def test_a_poisoned_prompt_does_not_take_its_batch_along(start: Start) -> None:
    judge, actor = start(Ranker, method="judge", batch_size=8)
    a, poisoned, b = judge.judge([compare("a"), compare("poison"), compare("b")])
    assert (a.scores, b.scores) == ((1.0,), (1.0,))
    assert poisoned.reason == "the actor raised RuntimeError: poisoned"
    assert [j.tries for j in (a, poisoned, b)] == [2, 2, 2]
    assert ray.get(actor.seen.remote()) == [3, 1, 1, 1]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_calls_in_flight_are_bounded(start: Start, concurrency: int) -> None:
    judge, actor = start(Slow, concurrency=concurrency)
    assert not any(j.failed for j in judge.judge([compare("a")] * 6))
    assert ray.get(actor.seen.remote()) == concurrency


def test_a_call_that_is_late_has_failed_and_is_cancelled(start: Start) -> None:
    judge, _ = start(Slow, timeout_s=0.05)
    judge.judge([])  # the actor need not be up for this
    (late,) = judge.judge([compare("a")])
    assert late.reason == "the actor gave no answer within 0.05 s; the call was cancelled"


def test_an_actor_that_stays_absent_is_out_of_reach_and_the_remedy_is_told() -> None:
    with pytest.raises(JudgeUnreachable) as caught:
        judge_of("nobody", patience_s=0.2).judge([compare("a", "b")])
    assert str(caught.value) == (
        f"the judge is the actor named 'nobody' in namespace '{NAMESPACE}', and there is none on this run's Ray cluster, for "
        f"longer than judge.patience_s 0.2. Start it there with .options(name='nobody', namespace='{NAMESPACE}', "
        "lifetime='detached')"
    )


def test_an_actor_that_was_out_of_reach_is_not_waited_for_again_until_it_has_been_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An ensemble goes on without it; each shard would cost its patience."""
    slept: list[float] = []
    monkeypatch.setattr("xpo_ray.actors.named_judge.time.sleep", slept.append)
    judge = judge_of("nobody", patience_s=0.2)
    for _ in range(2):
        with pytest.raises(JudgeUnreachable):
            judge.judge([compare("a", "b")])
        assert sum(slept) == pytest.approx(0.2)


def test_an_actor_that_is_started_while_the_judge_waits_is_found() -> None:
    name, kept = uuid.uuid4().hex, []

    def start_late() -> None:
        time.sleep(0.5)
        options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0}
        kept.append(ray.remote(Scorer).options(**options).remote())  # type: ignore[attr-defined]

    thread = threading.Thread(target=start_late)
    thread.start()
    assert judge_of(name).judge([compare("abc")])[0].scores == (3.0,)
    thread.join()
    ray.kill(kept[0])


def test_an_actor_that_is_stuck_in_a_call_is_out_of_reach(start: Start) -> None:
    judge, _ = start(Scorer, timeout_s=0.5, patience_s=0.5, retries=1)
    with pytest.raises(JudgeUnreachable, match="and it is stuck in a call, for longer than"):
        judge.judge([compare("hang")])


def test_another_namespace_is_another_actor(start: Start) -> None:
    _, actor = start(Scorer)
    ray.get(actor.score.remote([{"role": "user", "content": ""}], ["a"]))
    name = uuid.uuid4().hex
    ray.remote(Scorer).options(name=name, namespace="elsewhere", num_cpus=0).remote()  # type: ignore[attr-defined]
    with pytest.raises(JudgeUnreachable, match="there is none on this run's Ray cluster"):
        judge_of(name, patience_s=0.0).judge([compare("a")])


def test_an_actor_without_the_method_is_told_what_it_lacks(start: Start) -> None:
    judge, _ = start(Scorer, method="judge")
    assert "has no method `judge`; define it, or set judge.method" in (judge.judge([compare("a")])[0].reason or "")


def test_an_actor_whose_method_takes_other_parameters_is_told_so(start: Start) -> None:
    class Odd:
        def score(self, prompt: Any) -> Any:
            return prompt

    judge, _ = start(Odd)
    assert "`score` of the actor named " in (reason := judge.judge([compare("a")])[0].reason or "")
    assert "cannot be called: too many positional arguments" in reason


def test_an_answer_of_a_class_that_this_process_does_not_know_is_a_failed_judgement(start: Start) -> None:
    class Returns:
        def score(self, prompt: Any, responses: Any) -> Any:  # noqa: ARG002
            class Unknown:
                def __reduce__(self) -> tuple[object, ...]:
                    return __import__, ("not_installed_anywhere",)

            return Unknown()

    judge, _ = start(Returns)
    (said,) = judge.judge([compare("a")])
    assert said.failed
    assert "not_installed_anywhere" in (said.reason or "")


def test_an_actor_that_dies_fails_what_it_was_asked_and_nothing_gets_a_score(start: Start) -> None:
    judge, _ = start(Scorer, patience_s=1.0)
    before, dead, after = judge.judge([compare("a"), compare("die"), compare("b")])
    assert before.scores == (1.0,)
    assert f"in namespace '{NAMESPACE}' died in the call, or before it. Ray: " in (dead.reason or "")
    assert after.failed
    with pytest.raises(JudgeUnreachable):
        judge.judge([compare("a")])


def test_an_actor_that_was_started_again_is_found_by_the_next_try(tmp_path: Path) -> None:
    class Phoenix:
        """Dies once, in its first call; Ray starts it again."""

        def score(self, prompt: list[dict[str, str]], responses: list[str]) -> list[float]:  # noqa: ARG002
            try:
                (tmp_path / "died").touch(exist_ok=False)
            except FileExistsError:
                return [1.0] * len(responses)
            os._exit(1)

    name = uuid.uuid4().hex
    options = {"name": name, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": 1}
    actor = ray.remote(Phoenix).options(**options).remote()  # type: ignore[attr-defined]
    (said,) = judge_of(name, retries=1).judge([compare("a", "b")])
    assert said == Judgement(said.judge, (1.0, 1.0), tries=2)
    ray.kill(actor)


def test_the_judges_own_actor_asks_the_users_actor_and_has_a_pulse_meanwhile(start: Start, tmp_path: Path) -> None:
    judge, users = start(Slow)
    asked = ActorJudge(kind="actor", name=judge.spec.name, namespace=NAMESPACE)
    actor = start_actor(JudgeActor, f"judge of {judge.spec.name}", asked, str(tmp_path), pulse=True)
    shard = drawn(([7, 1], [5, 1, 1]), ([5], [6, 7]))
    ref = actor.prefer.remote(shard, ROW, 0, 1)
    assert ray.get(actor.pulse.options(concurrency_group=PULSE).remote()) is None
    table, summary = ray.get(ref)
    assert [j["scores"] for j in table["judgement"].to_pylist()] == [[1.0, 1.0], [1.0, 1.0]]
    assert (summary.counts["ties"], summary.counts["failed"]) == (2.0, 0.0)
    assert ray.get(users.seen.remote()) == 1
    ray.kill(actor)
