"""How draws become candidates, with an engine that shows what it was asked."""

from collections.abc import Sequence

import pyarrow as pa

from tests import tables
from xpo_ray.algorithms import Draw
from xpo_ray.generation.engine import (
    DrawContext,
    Drawn,
    Sampling,
    complete_candidates,
    draw_responses,
    sampling_of,
    with_candidates,
)
from xpo_ray.seeds import seed_of
from xpo_ray.shards import CANDIDATES
from xpo_ray.spec.training import SamplingSpec

SAMPLING = Sampling(1.0, 1.0, None, 8)
CONTEXT = DrawContext(run_seed=3, purpose="policy-0", iteration=2, version=1)


class Echo:
    """Draws the last token of the prompt and two digits of the seed; decodes by spelling ids."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []
        self.seeds: list[int] = []

    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
        assert sampling == SAMPLING
        self.prompts += [list(p) for p in prompts]
        self.seeds += seeds
        return [Drawn((p[-1], s % 100), s % 2 == 0) for p, s in zip(prompts, seeds, strict=True)]

    def decode(self, ids: Sequence[int]) -> str:
        return "-".join(map(str, ids))


def drawn(shard: pa.Table, draw: Draw, engine: Echo | None = None) -> list[list[dict[str, object]]]:
    engine = engine or Echo()
    return draw_responses(engine, engine, shard, draw, SAMPLING, CONTEXT)


def test_every_prompt_gets_its_samples_in_order_with_seeds_of_their_own() -> None:
    engine = Echo()
    made = drawn(tables.prompts([[5, 6], [7]], first_row=40), Draw("policy", 3), engine)
    assert engine.prompts == [[5, 6]] * 3 + [[7]] * 3
    assert engine.seeds == [seed_of(3, "policy-0", 2, row, sample) for row in (40, 41) for sample in range(3)]
    assert [[c["sample"] for c in row] for row in made] == [[0, 1, 2]] * 2
    assert [[c["ids"] for c in row] for row in made] == [
        [[6, seed_of(3, "policy-0", 2, 40, s) % 100] for s in range(3)],
        [[7, seed_of(3, "policy-0", 2, 41, s) % 100] for s in range(3)],
    ]


def test_a_candidate_says_who_drew_it_from_which_weights_and_whether_it_ended() -> None:
    (((made),),) = [drawn(tables.prompts([[5]]), Draw("reference"))]
    seed = seed_of(3, "policy-0", 2, 0, 0)
    assert made == [
        {
            "origin": "reference",
            "sample": 0,
            "version": 1,
            "text": f"5-{seed % 100}",
            "ids": [5, seed % 100],
            "ended": seed % 2 == 0,
        }
    ]


def test_a_draw_depends_on_its_row_and_not_on_the_shard_that_it_lies_in() -> None:
    prompts = tables.prompts([[5], [6], [7], [8]])
    assert drawn(prompts.slice(2, 1), Draw("policy"))[0] == drawn(prompts, Draw("policy"))[2]


def test_further_draws_come_behind_those_that_are_there() -> None:
    shard = tables.prompts([[5], [6]])
    once = with_candidates(shard, drawn(shard, Draw("policy")))
    twice = with_candidates(once, drawn(once, Draw("reference", 2)))
    origins = [[c["origin"] for c in row] for row in twice["candidates"].to_pylist()]
    assert origins == [["policy", "reference", "reference"]] * 2
    assert twice.column_names == [*shard.column_names, "candidates"]


def test_the_datasets_answers_come_behind_the_draws_chosen_first() -> None:
    shard = tables.prompts([[5], [6]], pairs=True)
    complete = complete_candidates(with_candidates(shard, drawn(shard, Draw("reference"))), dataset_candidates=True)
    assert complete.schema == CANDIDATES
    row = complete["candidates"].to_pylist()[1]
    assert [c["origin"] for c in row] == ["reference", "chosen", "rejected"]
    assert row[1] == {
        "origin": "chosen",
        "sample": 0,
        "version": -1,
        "text": "good 1",
        "ids": [11, 1, 1],
        "ended": True,
    }
    assert (row[2]["ids"], row[2]["ended"]) == ([12, 13, 1, 1], False)


def test_the_datasets_answers_stay_out_where_they_take_no_part() -> None:
    shard = tables.prompts([[5]], pairs=True)
    complete = complete_candidates(with_candidates(shard, drawn(shard, Draw("policy", 2))), dataset_candidates=False)
    assert [c["origin"] for c in complete["candidates"].to_pylist()[0]] == ["policy", "policy"]


def test_a_shard_without_draws_has_the_datasets_answers_alone() -> None:
    complete = complete_candidates(tables.prompts([[5], [6]], pairs=True), dataset_candidates=True)
    assert [[c["origin"] for c in row] for row in complete["candidates"].to_pylist()] == [["chosen", "rejected"]] * 2
    assert complete.schema == CANDIDATES


def test_greedy_draws_keep_the_limits_and_nothing_else_of_the_sampling() -> None:
    spec = SamplingSpec(temperature=0.7, top_p=0.9, top_k=5, max_new_tokens=12, min_new_tokens=2)
    assert sampling_of(spec, greedy=False) == Sampling(0.7, 0.9, 5, 12, 2)
    assert sampling_of(spec, greedy=True) == Sampling(0.0, 1.0, None, 12, 2)
