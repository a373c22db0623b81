"""Prompts that stand twice, and held-out prompts that are trained on."""

import pyarrow as pa

from xpo_ray.prompt_facts import equal_prompts, overlap

IDS = pa.list_(pa.int32())


def table(*prompts: list[int], pieces: int = 1) -> pa.Table:
    whole = pa.table({"prompt_ids": pa.array(prompts, IDS)})
    size = -(-len(prompts) // pieces)
    return pa.concat_tables([whole.slice(start, size) for start in range(0, len(prompts), size)])


def test_equal_prompts_are_counted_with_the_first_one_and_its_twin() -> None:
    prompts = ([1, 2], [3], [1], [3], [1, 2], [3])
    for pieces in (1, 3):
        found = equal_prompts(table(*prompts, pieces=pieces))
        assert (found.count, found.first) == (3, (3, 1))
    assert equal_prompts(table([1, 2], [1], [2])).first is None


def test_prompts_are_equal_where_all_their_ids_are() -> None:
    assert equal_prompts(table([1, 2], [12], [2, 1])).count == 0


def test_every_held_out_prompt_that_is_trained_on_counts() -> None:
    held_out = table([9], [3], [3], [1, 2], pieces=2)
    found = overlap(held_out, table([1, 2], [4], [3], [3], pieces=2))
    assert (found.count, found.first) == (3, (1, 2))
    assert overlap(held_out, table([5])).count == 0
