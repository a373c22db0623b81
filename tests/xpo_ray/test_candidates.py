"""Draws and the dataset's answers beside each other, by hand."""

from collections.abc import Sequence

import pyarrow as pa

from tests import tables
from xpo_ray.candidates import complete_candidates, drawn_table
from xpo_ray.shards import CANDIDATES


def drawn(origin: str, ids: Sequence[Sequence[Sequence[int]]]) -> pa.Table:
    """A drawn column: for each row the ids of its draws."""
    rows = [[tables.candidate(origin, i, sample=k) for k, i in enumerate(row)] for row in ids]
    return drawn_table(rows)


def test_draws_stand_in_the_order_given_and_the_datasets_answers_behind_them_chosen_first() -> None:
    shard = tables.prompts([[5], [6]], pairs=True)
    policy = drawn("policy", [[[7], [8, 9]], [[10], [11]]])
    reference = drawn("reference", [[[12, 13]], [[14]]])
    complete = complete_candidates(shard, [policy, reference], dataset_candidates=True)
    assert complete.schema == CANDIDATES
    rows = complete["candidates"].to_pylist()
    assert [[c["origin"] for c in row] for row in rows] == [["policy"] * 2 + ["reference", "chosen", "rejected"]] * 2
    assert [[c["ids"] for c in row[:3]] for row in rows] == [[[7], [8, 9], [12, 13]], [[10], [11], [14]]]
    assert rows[1][3] == {
        "origin": "chosen",
        "sample": 0,
        "version": -1,
        "text": "good 1",
        "ids": [11, 1, 1],
        "ended": True,
    }
    assert (rows[1][4]["ids"], rows[1][4]["ended"]) == ([12, 13, 1, 1], False)
    assert complete.drop_columns(["candidates"]).to_pylist() == shard.select(complete.column_names[:-1]).to_pylist()


def test_the_datasets_answers_stay_out_where_they_take_no_part() -> None:
    complete = complete_candidates(
        tables.prompts([[5]], pairs=True), [drawn("policy", [[[7], [8]]])], dataset_candidates=False
    )
    assert [c["origin"] for c in complete["candidates"].to_pylist()[0]] == ["policy", "policy"]


def test_a_shard_without_draws_has_the_datasets_answers_alone() -> None:
    complete = complete_candidates(tables.prompts([[5], [6]], pairs=True), [], dataset_candidates=True)
    assert [[c["origin"] for c in row] for row in complete["candidates"].to_pylist()] == [["chosen", "rejected"]] * 2
    assert complete.schema == CANDIDATES


def test_slices_of_longer_tables_are_read_as_what_they_are() -> None:
    shard = tables.prompts([[4], [5], [6]], pairs=True).slice(1, 2)
    longer = drawn("reference", [[[1]], [[2]], [[3], [4]], [[5]]]).slice(1, 2)
    complete = complete_candidates(shard, [longer], dataset_candidates=True)
    ids = [[c["ids"] for c in row] for row in complete["candidates"].to_pylist()]
    assert [row[:-2] for row in ids] == [[[2]], [[3], [4]]]
    assert [row[-2] for row in ids] == [[11, 1, 1], [11, 2, 1]]
