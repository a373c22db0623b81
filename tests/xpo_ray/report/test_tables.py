"""Committed tables, a few columns at a time: which are seen, how much is read, what the numbers are."""

from pathlib import Path

import numpy as np
import pytest

from tests.xpo_ray.report import folders
from tests.xpo_ray.report.folders import attempt_in, judged_row, put_held_out, put_preferences
from xpo_ray.errors import CorruptArtifact
from xpo_ray.report import tables
from xpo_ray.report.tables import CommittedTables


def test_scores_are_told_by_origin_and_a_prompt_that_was_not_judged_has_none(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        put_preferences(run.attempt, 1, [[0.5, 2.0, 1.0], None])
        put_preferences(run.attempt, 1, [[0.7, 3.0, 0.0]], shard=1)
    found = CommittedTables.of(tmp_path).scores(1)
    assert {o: v.tolist() for o, v in found.scores.items()} == {
        "reference": [0.5, 0.7],
        "chosen": [2.0, 3.0],
        "rejected": [1.0, 0.0],
    }
    assert (found.prompts, found.read, found.tokens) == (3, 3, 3 * 7)  # draw of 2 ids, chosen of 3, rejected of 2
    assert found.reasons == {"the judge fell asleep": 1}


def test_missing_scores_within_a_judgement_are_not_a_number(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        put_preferences(run.attempt, 1, [[None, 2.0, 1.0]])  # type: ignore[list-item]
    scores = CommittedTables.of(tmp_path).scores(1).scores
    assert np.isnan(scores["reference"]).tolist() == [True]
    assert scores["chosen"].tolist() == [2.0]


def test_of_a_long_iteration_evenly_spaced_shards_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_PROMPTS", 6)
    with attempt_in(tmp_path) as run:
        for shard in range(9):
            put_preferences(run.attempt, 1, [[float(shard), 2.0, 1.0]] * 2, shard=shard)
    found = CommittedTables.of(tmp_path).scores(1)
    assert (found.prompts, found.read) == (18, 6)
    assert found.scores["reference"].tolist() == [0.0, 0.0, 4.0, 4.0, 8.0, 8.0]


def test_a_held_out_evaluation_is_read_in_order_and_up_to_the_first_gap(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        for shard in (0, 1, 3):
            put_held_out(run.attempt, 1, [judged_row(2 * shard + i, score=None if i else 2.5) for i in (0, 1)], shard)
    seen = CommittedTables.of(tmp_path)
    assert seen.evaluated_iterations == [1]
    found = seen.held_out(1)
    assert found["row"].tolist() == [0, 1, 2, 3]
    assert np.isnan(found["score"]).tolist() == [False, True, False, True]
    assert [r["row"] for r in seen.responses(1, 3)] == [0, 1, 2]


def test_tables_of_earlier_attempts_are_seen_where_they_were_adopted(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        put_held_out(run.attempt, 0, [judged_row(0)])
    with attempt_in(tmp_path, resume=True) as run:
        put_held_out(run.attempt, 1, [judged_row(0)])
    assert CommittedTables.of(tmp_path).evaluated_iterations == [0, 1]


def test_evaluations_that_were_made_in_another_way_are_not_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attempt_in(tmp_path) as run:
        for t in (0, 1, 2):
            put_held_out(run.attempt, t, [judged_row(0)])
    monkeypatch.setattr(folders, "HELD_OUT_ID", "ffff0000")
    with attempt_in(tmp_path, resume=True) as run:
        put_held_out(run.attempt, 0, [judged_row(0)])
    seen = CommittedTables.of(tmp_path)
    assert seen.held_out_id == "ffff0000"
    assert seen.evaluated_iterations == [0]


def test_a_table_that_is_gone_is_named(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        put_held_out(run.attempt, 0, [judged_row(0)])
    (data,) = tmp_path.rglob("judged/*.parquet")
    data.unlink()
    with pytest.raises(CorruptArtifact, match=data.name):
        CommittedTables.of(tmp_path).held_out(0)


def test_a_run_without_tables_has_none(tmp_path: Path) -> None:
    with attempt_in(tmp_path):
        pass
    seen = CommittedTables.of(tmp_path)
    assert seen.training_iterations == seen.evaluated_iterations == []
    assert seen.held_out_id == ""
