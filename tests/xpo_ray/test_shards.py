"""The schemas of the stages, and the step from one to the next."""

from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import tables
from xpo_ray.shards import CANDIDATES, PREFERENCES, PROMPTS, SCHEMAS, SCORED, STAGES, with_column


def scored() -> pa.Table:
    candidates = [[tables.candidate("policy", [5, 1]), tables.candidate("reference", [6], ended=False)]]
    return tables.scored([[3, 4]], candidates, [tables.pair(1, 0, 1)], [[-1.5, None]])


def test_every_stage_has_a_schema_that_holds_the_one_before() -> None:
    assert tuple(SCHEMAS) == STAGES
    for before, after in pairwise(STAGES):
        assert SCHEMAS[after].names[: len(SCHEMAS[before])] == SCHEMAS[before].names
    assert PROMPTS.names[:4] == CANDIDATES.names[:4]


def test_a_stage_adds_its_column_in_the_declared_schema() -> None:
    prompts = tables.prompts([[3, 4], [5]])
    table = with_column(prompts, CANDIDATES, candidates=[[tables.candidate("policy", [7, 1])], []])
    assert table.schema == CANDIDATES
    assert table["prompt_ids"].to_pylist() == [[3, 4], [5]]
    assert [len(c) for c in table["candidates"].to_pylist()] == [1, 0]


def test_the_datasets_columns_end_with_the_candidates() -> None:
    table = with_column(tables.prompts([[3]], pairs=True), CANDIDATES, candidates=[[]])
    assert "chosen" not in table.column_names


def test_a_new_column_takes_the_place_of_one_of_that_name() -> None:
    table = with_column(scored(), SCORED, reference_logps=[[-2.0, -3.0]])
    assert table["reference_logps"].to_pylist() == [[-2.0, -3.0]]


def test_a_missing_column_is_an_error_and_never_a_null() -> None:
    with pytest.raises(KeyError, match="judgement"):
        with_column(tables.prompts([[3]]), PREFERENCES, candidates=[[]], preference=[tables.dropped()])


def test_values_that_do_not_fit_their_type_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        with_column(tables.prompts([[3]]), CANDIDATES, candidates=[[{"ids": ["not an id"]}]])


def test_every_stage_survives_parquet_unchanged() -> None:
    for schema in SCHEMAS.values():
        table = with_column(scored(), schema)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        back = pq.read_table(pa.BufferReader(sink.getvalue()))
        assert back.schema == schema
        assert back.equals(table)


def test_a_table_that_was_committed_before_disagreement_was_kept_goes_on_with_null() -> None:
    now = scored()
    judgement = now["judgement"].combine_chunks()
    old_type = pa.struct([field for field in judgement.type if field.name != "disagreement"])
    old = pa.StructArray.from_arrays([judgement.field(f.name) for f in old_type], fields=list(old_type))
    before = now.set_column(now.column_names.index("judgement"), pa.field("judgement", old_type, nullable=False), old)
    assert before.schema != SCORED
    table = with_column(before.drop_columns(["reference_logps"]), SCORED, reference_logps=[[-1.5, None]])
    assert table.schema == SCORED
    assert table["judgement"].to_pylist() == [row | {"disagreement": None} for row in old.to_pylist()]
    assert table.drop_columns(["judgement"]).equals(now.drop_columns(["judgement"]))
