"""Held-out draws and log-probs of a real policy."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import tables
from tests.tiny import tiny_model_folder
from xpo_ray.chat import Chat
from xpo_ray.evaluation.draws import add_base, draw_held_out
from xpo_ray.evaluation.table import BASED, DRAWN
from xpo_ray.generation.engine import Sampling
from xpo_ray.logprobs import PromptGroup
from xpo_ray.policy import Policy
from xpo_ray.seeds import seed_of
from xpo_ray.shards import PROMPTS
from xpo_ray.spec.loading import parse_spec

pytestmark = pytest.mark.usefixtures("one_thread")

SAMPLED, GREEDY = Sampling(1.0, 1.0, None, 6), Sampling(0.0, 1.0, None, 6)


def policy(folder: Path, version: int) -> Policy:
    raw: dict[str, Any] = {
        "seed": 0,
        "model": {"path": str(folder)},
        "data": {"source": {"kind": "files", "path": "/d"}},
        "algorithm": {"kind": "selm"},
        "judge": {"kind": "python", "function": "a:b"},
        "output": {"path": "/o"},
    }
    one = Policy(parse_spec(raw), Chat.load(str(folder), None, "tokenizer"))
    one.load(folder, version)
    return one


@pytest.fixture(scope="module")
def base(model_folder: Path) -> Policy:
    return policy(model_folder, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return policy(tiny_model_folder(tmp_path_factory.mktemp("trained") / "model", seed=5), 3)


def prompts() -> pa.Table:
    """Three prompts, the middle one without a pair."""
    shard = tables.prompts([[20, 21], [22], [23, 24, 25]], pairs=True).to_pylist()
    for name in ("chosen", "rejected"):
        shard[1] |= {name: None, f"{name}_ids": None, f"{name}_ended": None}
    return pa.Table.from_pylist(shard, schema=PROMPTS)


def test_every_prompt_gets_one_response_and_its_log_prob_under_the_weights_that_drew_it(trained: Policy) -> None:
    made = draw_held_out(trained, prompts(), SAMPLED, 0, 3)
    assert made.schema == DRAWN
    for row in made.to_pylist():
        ((expected,),) = trained.logps([PromptGroup(row["prompt_ids"], (row["ids"],))], 3)
        assert row["logp"] == pytest.approx(expected, abs=1e-5)
        assert row["response"] == trained.chat.decode(row["ids"])
        assert row["ended"] == (row["ids"][-1] in trained.chat.eos_ids)


def test_held_out_pairs_get_log_probs_and_prompts_without_a_pair_none(trained: Policy) -> None:
    made = draw_held_out(trained, prompts(), SAMPLED, 0, 3).to_pylist()
    assert (made[1]["chosen_logp"], made[1]["rejected_logp"]) == (None, None)
    for place in (0, 2):
        source = prompts().to_pylist()[place]
        group = PromptGroup(source["prompt_ids"], (source["chosen_ids"], source["rejected_ids"]))
        expected = trained.logps([group], 3)[0]
        assert [made[place]["chosen_logp"], made[place]["rejected_logp"]] == pytest.approx(expected, abs=1e-5)


def test_every_iteration_draws_with_the_same_seeds(base: Policy) -> None:
    once = draw_held_out(base, prompts(), SAMPLED, 0, 0)
    assert draw_held_out(base, prompts(), SAMPLED, 0, 0).equals(once)
    seeds = [seed_of(0, "evaluation", 0, row, 0) for row in range(3)]
    drawn = base.engine.draw(prompts()["prompt_ids"].to_pylist(), seeds, SAMPLED)
    assert once["ids"].to_pylist() == [list(d.ids) for d in drawn]
    assert not draw_held_out(base, prompts(), SAMPLED, 1, 0).equals(once)


def test_greedy_draws_depend_on_no_seed(base: Policy) -> None:
    assert draw_held_out(base, prompts(), GREEDY, 0, 0).equals(draw_held_out(base, prompts(), GREEDY, 1, 0))


def test_the_base_adds_what_it_thinks_of_anothers_responses(base: Policy, trained: Policy) -> None:
    drawn = draw_held_out(trained, prompts(), SAMPLED, 0, 3)
    made = add_base(base, drawn)
    assert made.schema == BASED
    assert made.drop_columns(["base_logp"]).equals(drawn)
    for row in made.to_pylist():
        ((expected,),) = base.logps([PromptGroup(row["prompt_ids"], (row["ids"],))], 0)
        assert row["base_logp"] == pytest.approx(expected, abs=1e-5)
        assert row["base_logp"] != pytest.approx(row["logp"], abs=1e-3)


def test_the_base_thinks_of_its_own_responses_what_it_thought_when_it_drew_them(base: Policy) -> None:
    made = add_base(base, draw_held_out(base, prompts(), SAMPLED, 0, 0))
    assert made["base_logp"].to_pylist() == pytest.approx(made["logp"].to_pylist(), abs=1e-5)


def test_another_version_is_refused(base: Policy) -> None:
    with pytest.raises(RuntimeError, match="asked for policy version 1, these weights are version 0"):
        draw_held_out(base, prompts(), SAMPLED, 0, 1)
