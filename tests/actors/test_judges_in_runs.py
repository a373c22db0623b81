"""Whole runs whose judge is an ensemble, a user's actor, or several replicas: what they commit, and that they end alike."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.actors.conftest import Heard, Ran, World
from tests.running import model_digest, write_spec
from tests.tiny import tiny_tokenizer
from xpo_ray.actors.driver import run_foreground
from xpo_ray.errors import JudgeUnreachable
from xpo_ray.preparation import prepare
from xpo_ray.report.folder import RunFolder
from xpo_ray.reporting import EvaluationDone, RunFinished, ShardDone
from xpo_ray.spec.loading import load_spec
from xpo_ray.storage import LocalStorage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

VOWELS = {"kind": "python", "function": "vowels:score"}


def reward_model_folder(path: Path) -> Path:
    """A random decoder with a score at its last token, and its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_labels=1,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def small(world: World, judge: dict[str, Any]) -> dict[str, Any]:
    """Two shards of the world's SELM, one iteration, without evaluation."""
    data = {k: v for k, v in world.raw["data"].items() if k != "evaluation"}
    source = {**data["source"], "limit": 16}
    return {**world.raw, "judge": judge, "data": {**data, "source": source, "partitions": 1}}


def members(world: World) -> tuple[dict[str, Any], dict[str, Any]]:
    """A function and a reward model."""
    folder = world.folder / "reward"
    if not folder.exists():
        reward_model_folder(folder)
    return VOWELS, {"kind": "reward_model", "path": "./reward", "max_tokens": 256}


def ensemble(world: World) -> dict[str, Any]:
    """Both; the function counts twice."""
    function, reward = members(world)
    return {"kind": "ensemble", "members": [{"judge": function, "weight": 2.0}, {"judge": reward}]}


def judgements(ran: Ran, iterations: int, shards: int) -> list[dict[str, Any]]:
    """Of all prompts of a run, in order."""
    storage = LocalStorage(ran.result.root, ran.result.attempts)
    keys = [f"iteration-{t + 1:04d}/scored/shard-{k:05d}" for t in range(iterations) for k in range(shards)]
    commits = [commit for key in keys if (commit := storage.find(key)) is not None]
    assert len(commits) == len(keys)
    return [row for commit in commits for row in storage.read_table(commit)["judgement"].to_pylist()]


def counted(ran: Ran, name: str) -> float:
    return sum(e.counts.get(name, 0.0) for e in ran.heard.of(ShardDone) if e.stage == "preferences")


@pytest.mark.long
def test_an_ensemble_of_a_function_and_a_reward_model_judges_a_run(world: World) -> None:
    ran = world.run("ensemble", raw={**world.raw, "judge": ensemble(world)})
    said = judgements(ran, 2, 3)
    assert len(said) == 48
    assert {j["judge"] for j in said} == {"ensemble(python:vowels:score + reward_model:reward)"}
    assert all(len(j["scores"]) == 3 and sum(j["scores"]) == pytest.approx(0.0, abs=1e-9) for j in said)
    disagreements = [j["disagreement"] for j in said]
    assert {round(6 * d, 9) for d in disagreements} <= {0.0, 1.0, 2.0, 3.0, 4.0}  # weights 2 and 1, ties half
    assert counted(ran, "disagreed") == sum(d > 0 for d in disagreements) > 0
    assert [e.metrics["prompts"] for e in ran.heard.of(EvaluationDone)] == [8, 8, 8]


@pytest.mark.long
def test_one_replica_of_an_ensemble_gives_what_two_give(world: World) -> None:
    raw = small(world, ensemble(world))
    one = world.run("ensemble-of-one", "resources.judge_replicas=1", raw=raw)
    two = world.run("ensemble-of-two", "resources.judge_replicas=2", raw=raw)
    assert judgements(one, 1, 2) == judgements(two, 1, 2)
    assert model_digest(one.result.root) == model_digest(two.result.root)


@pytest.mark.long
def test_a_cheap_judge_sends_on_what_it_is_unsure_of(world: World) -> None:
    function, reward = members(world)
    judge = {"kind": "ensemble", "members": [{"judge": function}, {"judge": reward}]}
    ran = world.run("cheap", raw=small(world, judge | {"combine": "cheap_then_dear", "unsure_below": 0.1}))
    dear = [j for j in judgements(ran, 1, 2) if j["judge"] == "ensemble(reward_model:reward)"]
    assert 0 < len(dear) < 16
    assert counted(ran, "asked_dear") == len(dear)
    assert all(j["disagreement"] is not None for j in dear)


@pytest.mark.long
def test_two_replicas_of_a_function_give_what_one_gives(world: World, selm: Ran) -> None:
    two = world.run("two-judges", "resources.judge_replicas=2", "judge.cache_entries=100")
    assert model_digest(two.result.root) == model_digest(selm.result.root)


class Vowels:
    """The world's reward, as an actor of the user's that imports nothing of ours."""

    def score(self, prompt: list[dict[str, str]], responses: list[str]) -> list[float]:
        assert prompt[-1]["role"] == "user"
        return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]


@pytest.fixture
def vowels() -> Iterator[Callable[[], None]]:
    """Starts the actor; it ends with the test."""
    started = []

    def start() -> None:
        options = {"name": "vowels", "namespace": "judges", "lifetime": "detached", "num_cpus": 0}
        started.append(ray.remote(Vowels).options(**options).remote())  # type: ignore[attr-defined]

    yield start
    for actor in started:
        ray.kill(actor)


ACTOR = {"kind": "actor", "name": "vowels", "patience_s": 0.5}


@pytest.mark.long
def test_an_actor_of_the_users_judges_a_run(world: World, vowels: Callable[[], None]) -> None:
    vowels()
    said = judgements(world.run("named", raw=small(world, ACTOR)), 1, 2)
    assert len(said) == 16
    assert {j["judge"] for j in said} == {"actor:judges/vowels"}
    assert all(len(j["scores"]) == 3 for j in said)


@pytest.mark.long
def test_a_run_whose_actor_is_absent_pauses_and_then_goes_on_and_ends_as_with_a_function(
    world: World, vowels: Callable[[], None]
) -> None:
    spec = load_spec(
        write_spec(world.folder, small(world, ACTOR), "absent.yaml"), ["output.path=./absent", "name=absent"]
    )
    heard = Heard()
    with pytest.raises(JudgeUnreachable, match="there is none on this run's Ray cluster"):
        run_foreground(prepare(spec, world.folder), resume=False, reporter=heard)
    ended = heard.of(RunFinished)[-1]
    assert (ended.status, "Start it there with .options" in (ended.error or "")) == ("paused", True)
    assert RunFolder.open(world.folder / "absent").status == "paused"
    vowels()
    ran = world.run("absent", raw=small(world, ACTOR), resume=True)
    assert ran.result.attempts == 2
    alike = world.run("function", raw=small(world, VOWELS))
    assert model_digest(ran.result.root) == model_digest(alike.result.root)
