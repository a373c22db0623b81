"""Draws and their seeds, with an engine that shows what it was asked."""

from collections.abc import Sequence

import pyarrow as pa

from tests import tables
from xpo_ray.algorithms import Draw
from xpo_ray.generation.engine import (
    DrawContext,
    Drawn,
    Sampling,
    draw_responses,
    sampling_of,
)
from xpo_ray.seeds import seed_of
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
    return draw_responses(engine, engine, [(shard, CONTEXT)], draw, SAMPLING)


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


def test_shards_of_several_iterations_are_one_batch_and_keep_their_own_seeds_and_versions() -> None:
    engine = Echo()
    later = DrawContext(run_seed=3, purpose="policy-0", iteration=3, version=2)
    work = [(tables.prompts([[5]], first_row=1), CONTEXT), (tables.prompts([[6], [7]], first_row=8), later)]
    made = draw_responses(engine, engine, work, Draw("reference"), SAMPLING)
    assert engine.prompts == [[5], [6], [7]]
    assert engine.seeds == [seed_of(3, "policy-0", t, row, 0) for t, row in ((2, 1), (3, 8), (3, 9))]
    assert [[c["version"] for c in row] for row in made] == [[1], [2], [2]]


def test_greedy_draws_keep_the_limits_and_nothing_else_of_the_sampling() -> None:
    spec = SamplingSpec(temperature=0.7, top_p=0.9, top_k=5, max_new_tokens=12, min_new_tokens=2)
    assert sampling_of(spec, greedy=False) == Sampling(0.7, 0.9, 5, 12, 2)
    assert sampling_of(spec, greedy=True) == Sampling(0.0, 1.0, None, 12, 2)
