"""The ledger: steps written down once, replays recognised, other pairs refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import tables
from xpo_ray.errors import LedgerMismatch
from xpo_ray.ledger import Ledger, pairs_hash


def opened(root: Path, attempt: int) -> Ledger:
    folder = root / "attempts" / f"{attempt:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    return Ledger.open(root, folder)


def written(root: Path, attempt: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / f"attempts/{attempt:04d}/ledger.jsonl").read_text().splitlines()]


def shard(logp: float = -1.0, reason: str | None = None, **changes: Any) -> pa.Table:
    candidates = [[tables.candidate("policy", changes.pop("ids", [5, 1])), tables.candidate("reference", [6, 1])]]
    preference = tables.pair(0, 1, 1, reason=reason) | changes
    return tables.scored([[3, 4]], candidates, [preference], [[logp, -2.0]])


def test_a_step_is_written_with_its_window_pairs_and_parent(tmp_path: Path) -> None:
    ledger = opened(tmp_path, 1)
    assert not ledger.enter(1, 1, "aa", None)
    assert not ledger.enter(1, 2, "bb", "iteration-0000-step-000001", skipped=True)
    assert written(tmp_path, 1) == [
        {"iteration": 1, "step": 1, "pairs": "aa", "parent": None, "replay": False, "skipped": False},
        {
            "iteration": 1,
            "step": 2,
            "pairs": "bb",
            "parent": "iteration-0000-step-000001",
            "replay": False,
            "skipped": True,
        },
    ]


def test_the_next_attempt_knows_the_steps_that_it_does_again(tmp_path: Path) -> None:
    first = opened(tmp_path, 1)
    first.enter(1, 1, "aa", None)
    first.enter(1, 2, "bb", None)
    second = opened(tmp_path, 2)
    assert second.enter(1, 2, "bb", None)
    assert not second.enter(1, 3, "cc", None)
    assert second.replayed == 1
    assert [row["replay"] for row in written(tmp_path, 2)] == [True, False]


def test_a_trainer_that_died_does_its_steps_again_in_the_same_attempt(tmp_path: Path) -> None:
    ledger = opened(tmp_path, 1)
    ledger.enter(1, 1, "aa", None)
    assert ledger.enter(1, 1, "aa", None)
    assert ledger.replayed == 1


def test_a_step_done_again_on_other_pairs_stops_the_run_and_is_not_written(tmp_path: Path) -> None:
    opened(tmp_path, 1).enter(2, 5, "a" * 64, None)
    second = opened(tmp_path, 2)
    with pytest.raises(
        LedgerMismatch, match="step 5 of iteration 2 was done before on pairs aaaaaaaaaaaa, now on bbbb"
    ):
        second.enter(2, 5, "b" * 64, None)
    assert not second.path.exists()
    assert second.since_checkpoint == []


def test_a_line_that_a_kill_cut_short_counts_for_nothing(tmp_path: Path) -> None:
    first = opened(tmp_path, 1)
    first.enter(1, 1, "aa", None)
    first.path.write_text(first.path.read_text() + '{"iteration": 1, "step": 2, "pa')
    second = opened(tmp_path, 2)
    assert second.enter(1, 1, "aa", None)
    assert not second.enter(1, 2, "bb", None)


def test_each_checkpoint_takes_the_steps_since_the_one_before(tmp_path: Path) -> None:
    ledger = opened(tmp_path, 1)
    ledger.enter(1, 1, "aa", None)
    ledger.enter(1, 2, "bb", None)
    assert ledger.cut() == ((1, 1, "aa"), (1, 2, "bb"))
    ledger.enter(1, 3, "cc", "one")
    assert ledger.cut() == ((1, 3, "cc"),)
    assert ledger.cut() == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": [5, 2]},
        {"chosen": 1, "rejected": 0},
        {"comparators": []},
        {"label": 0.9},
        {"weight": 0.5},
        {"outcome": "tie"},
    ],
)
def test_the_hash_covers_what_a_step_trains_on(changes: dict[str, Any]) -> None:
    assert pairs_hash([shard(**changes)]) != pairs_hash([shard()])


def test_the_hash_covers_the_order_of_the_rows_and_their_numbers() -> None:
    one, other = shard(), shard(ids=[9, 1])
    assert pairs_hash([one, other]) != pairs_hash([other, one])
    moved = one.set_column(0, one.schema.field("row"), pa.array([8], pa.int64()))
    assert pairs_hash([moved]) != pairs_hash([one])


def test_the_hash_leaves_out_floats_that_a_machine_rounds_and_how_rows_are_cut() -> None:
    assert pairs_hash([shard(logp=-1.0)]) == pairs_hash([shard(logp=-1.0000001)])
    both = pa.concat_tables([shard(), shard(ids=[9, 1])])
    assert pairs_hash([both]) == pairs_hash([both.slice(0, 1), both.slice(1)])


def test_an_empty_window_has_a_hash_too() -> None:
    assert pairs_hash([]) == pairs_hash([shard().slice(0, 0)])


def test_steps_before_the_last_published_checkpoint_are_forgotten(tmp_path: Path) -> None:
    ledger = opened(tmp_path, 1)
    for step in (1, 2):
        ledger.enter(1, step, f"{step}", None)
    ledger.cut()
    ledger.enter(1, 3, "3", None)
    assert set(ledger.seen) == {(1, 1), (1, 2), (1, 3)}  # the checkpoint after step 2 may not be published yet
    assert ledger.cut() == ((1, 3, "3"),)
    assert set(ledger.seen) == {(1, 3)}


def test_a_cut_that_was_not_published_leaves_its_steps_to_be_recognised(tmp_path: Path) -> None:
    ledger = opened(tmp_path, 1)
    for step in (1, 2, 3):
        ledger.enter(1, step, f"{step}", None)
    ledger.cut()
    assert ledger.enter(1, 1, "1", None)
    with pytest.raises(LedgerMismatch):
        ledger.enter(1, 2, "other", None)
