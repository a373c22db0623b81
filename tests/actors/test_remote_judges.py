"""Whole runs with judges behind HTTP endpoints; one is down for a while, and the run pauses and goes on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.actors.conftest import Heard, Ran, World
from tests.running import model_digest, write_spec
from tests.xpo_ray.judges.remote.chatting import preferring, scoring, shown
from tests.xpo_ray.judges.remote.endpoint import Endpoint, Reply, serving
from xpo_ray.actors.driver import run_foreground
from xpo_ray.errors import JudgeFailed, JudgeUnreachable
from xpo_ray.preparation import prepare
from xpo_ray.report.folder import RunFolder
from xpo_ray.reporting import EvaluationDone, RunFinished, ShardDone, StepDone, Warned
from xpo_ray.spec.loading import load_spec

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]
IMPATIENT = {"retries": 1, "breaker_failures": 2, "cool_down_s": 0.1, "patience_s": 0.3}


def vowels(text: str) -> float:
    """As the judge of the undisturbed run."""
    return sum(c in "aeiou" for c in text) / (1 + len(text))


def judged(body: dict[str, Any]) -> Reply:
    told = [{"id": c["id"], "scores": [vowels(r["text"]) for r in c["responses"]]} for c in body["comparisons"]]
    return Reply(text=json.dumps({"version": 1, "judgements": told}))


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving(judged) as made:
        yield made


def paused(world: World, name: str, raw: dict[str, Any], *overrides: str) -> Heard:
    """Run until the judge is out of reach; what was heard until then."""
    spec = load_spec(
        write_spec(world.folder, raw, f"{name}.yaml"), [f"output.path=./{name}", f"name={name}", *overrides]
    )
    heard = Heard()
    with pytest.raises(JudgeUnreachable, match=r"answered 503.*bring the judge back, then resume the run"):
        run_foreground(prepare(spec, world.folder), resume=False, reporter=heard)
    return heard


def down_after(requests: int, endpoint: Endpoint) -> None:
    """The endpoint answers so many requests and is then down."""
    up = endpoint.behaviour
    endpoint.behaviour = lambda body: up(body) if len(endpoint.bodies) <= requests else Reply(503, "maintenance")


@pytest.mark.long
@pytest.mark.parametrize("layout", ["dedicated", "colocated"])
def test_while_its_judge_is_down_a_run_pauses_and_then_goes_on_to_the_same_result(
    world: World, selm: Ran, endpoint: Endpoint, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {k: v for k, v in world.raw["data"].items() if k != "evaluation"}
    monkeypatch.setenv(
        "JUDGE_TOKEN", "canary"
    )  # after Ray has begun, so that its processes do not have it by themselves
    judge = {"kind": "http", "url": endpoint.url, "batch_size": 8, "token_env": "JUDGE_TOKEN", **IMPATIENT}
    raw = {**world.raw, "data": data, "judge": judge}
    down_after(4 if layout == "dedicated" else 2, endpoint)
    name, placed = f"paused-{layout}", f"resources.layout={layout}"
    heard = paused(world, name, raw, placed)
    ended = heard.of(RunFinished)[-1]
    assert (ended.status, "maintenance" in (ended.error or "")) == ("paused", True)
    assert RunFolder.open(world.folder / name).status == "paused"
    assert "answered 503" in (world.folder / name / "report.html").read_text()
    endpoint.behaviour = judged
    ran = world.run(name, placed, resume=True, raw=raw)
    assert model_digest(ran.result.root) == model_digest(selm.result.root)
    assert ran.heard.of(RunFinished)[-1].replayed_steps == 0
    assert len(heard.of(StepDone)) + len(ran.heard.of(StepDone)) == 6
    made = {(e.iteration, e.shard, e.stage) for e in heard.of(ShardDone) if e.fresh and e.stage != "held-out"}
    again = {(e.iteration, e.shard, e.stage) for e in ran.heard.of(ShardDone) if e.fresh and e.stage != "held-out"}
    assert not made & again
    assert {h.get("authorization") for h in endpoint.headers} == {"Bearer canary"}
    assert sum(e.counts.get("judge_requests", 0.0) for e in ran.heard.of(ShardDone)) > 0


@pytest.mark.long
def test_a_run_goes_on_without_a_member_that_is_out_of_reach_warns_and_shows_what_it_was_missing_for(
    world: World, selm: Ran, endpoint: Endpoint
) -> None:
    down_after(0, endpoint)
    away = {"kind": "http", "url": endpoint.url, **IMPATIENT}
    members = [{"judge": world.raw["judge"]}, {"judge": away}]
    judge = {"kind": "ensemble", "members": members, "min_members": 1, "normalise": "none"}
    ran = world.run("without", raw={**world.raw, "judge": judge})
    assert model_digest(ran.result.root) == model_digest(selm.result.root)
    judged = [e.counts for e in ran.heard.of(ShardDone) if e.stage == "preferences"]
    assert sum(c["without_member"] for c in judged) == sum(c["prompts"] for c in judged) > 0
    told = [w.message for w in ran.heard.of(Warned) if w.code == "judge_member_1_away"]
    assert told
    assert "judge.members.1.judge (http): judge http:" in told[0]
    page = (ran.result.root / "report.html").read_text()
    assert "a member out of reach" in page
    assert "answered 503" in page


@pytest.mark.long
def test_a_judge_that_answers_garbage_ends_the_run(world: World, endpoint: Endpoint) -> None:
    endpoint.behaviour = lambda _: Reply(text="I feel good about all of them")
    raw = {**world.raw, "judge": {"kind": "http", "url": endpoint.url, **IMPATIENT}}
    with pytest.raises(JudgeFailed, match=r"failed on 8 of 8 prompts.*is not JSON.*I feel good"):
        world.run("garbage", raw=raw)


@pytest.mark.long
def test_an_evaluation_whose_judge_is_down_is_made_after_the_training_by_the_next_attempt(
    world: World, endpoint: Endpoint, selm: Ran
) -> None:
    own = {"judge": {"kind": "http", "url": endpoint.url, **IMPATIENT}}
    raw = {**world.raw, "evaluation": own}
    down_after(0, endpoint)
    heard = paused(world, "unevaluated", raw)
    assert len(heard.of(StepDone)) == 6
    assert {w.code for w in heard.of(Warned)} == {"judge_unreachable"}
    endpoint.behaviour = judged
    ran = world.run("unevaluated", resume=True, raw=raw)
    assert sorted(e.iteration for e in ran.heard.of(EvaluationDone)) == [0, 1, 2]
    assert ran.heard.of(StepDone) == []
    assert model_digest(ran.result.root) == model_digest(selm.result.root)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["pairwise", "scored"])
def test_a_run_with_a_language_model_as_its_judge_reports_tokens_and_cost(
    world: World, endpoint: Endpoint, mode: str
) -> None:
    better = preferring(lambda a, b: "tie" if vowels(a) == vowels(b) else "A" if vowels(a) > vowels(b) else "B")
    endpoint.behaviour = better if mode == "pairwise" else scoring(lambda text: 1 + 9 * vowels(text))
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 2.0}
    judge = {"kind": "llm", "url": endpoint.url, "model": "big", "mode": mode, **prices}
    ran = world.run(f"llm-{mode}", raw={**world.raw, "judge": judge})
    counts = [e.counts for e in ran.heard.of(ShardDone) if "judge_requests" in e.counts]
    requests = sum(c["judge_requests"] for c in counts)
    assert requests == len(endpoint.bodies) > 0
    assert all(len(shown(body)) == (2 if mode == "pairwise" else 1) for body in endpoint.bodies)
    assert sum(c["judge_input_tokens"] for c in counts) == 100 * requests
    assert sum(c["judge_cost"] for c in counts) == pytest.approx(requests * (100 * 1.0 + 10 * 2.0) / 1e6)
    assert len(ran.heard.of(StepDone)) == 6
    assert f"{requests:,.0f}" in (ran.result.root / "report.html").read_text()
