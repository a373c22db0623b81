"""The end of a run: which model, which tables, which tier; from folders made by hand."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.running import tiny_world, write_spec
from xpo_ray.attempts import Attempt, open_attempt
from xpo_ray.errors import CorruptArtifact
from xpo_ray.evaluation.table import JUDGED, held_out_key
from xpo_ray.preparation import Prepared, prepare
from xpo_ray.reporting import Journal, StepDone
from xpo_ray.results import Result, finish_run, read_result, tier_of
from xpo_ray.spec.loading import load_spec
from xpo_ray.storage import Checkpoint, read_json, replace_file, to_json

REWARDS: dict[int, dict[str, float | None]] = {
    0: {"reward": 0.9, "length": 5.0},
    1: {"reward": 0.6, "length": 6.0},
    2: {"reward": 0.4, "length": 7.0},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, tiny_world(folder, prompts=16, held_out=5)


def prepared(world: tuple[Path, dict[str, Any]], *overrides: str) -> Prepared:
    folder, raw = world
    spec = load_spec(write_spec(folder, raw), ["data.shard_size=2", "output.samples=3", *overrides])
    return prepare(spec, folder)


def opened(root: Path, run: Prepared, *, resume: bool = False, **record: Any) -> Attempt:
    spec = run.spec.model_dump(mode="json")
    return open_attempt(root, run.identity, spec, {**run.record, **record}, resume=resume)


def publish(attempt: Attempt, iteration: int, step: int = 0) -> Checkpoint:
    """A checkpoint whose weights say which one it is."""
    says = f"weights {iteration}" if step == 0 else f"weights {iteration} and {step} steps"

    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_text(says)
        (folder / "trainer").mkdir()
        (folder / "trainer" / "state.safetensors").write_text("moments")

    name = f"iteration-{iteration:04d}-step-{step:06d}"
    return attempt.storage.publish_checkpoint(write, Checkpoint(name, "", iteration, step, 0, None, 0.0, (), {}))


def trained(root: Path, run: Prepared) -> Attempt:
    """A run whose two iterations are published."""
    attempt = opened(root, run)
    for iteration in (1, 2):
        publish(attempt, iteration)
    return attempt


def weights(result: Result) -> str:
    return (result.model / "model.safetensors").read_text()


def note(attempt: Attempt, *steps: StepDone) -> None:
    journal = Journal(attempt.folder / "journal.jsonl", attempt.number)
    for step in steps:
        journal.emit(step)
    journal.close()


def test_the_last_model_is_the_result_unless_the_best_is_asked_for(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    for select, iteration in (("last", 2), ("best", 1)):
        run = prepared(world, f"evaluation.select={select}")
        attempt = trained(tmp_path / select, run)
        result = finish_run(run, attempt, REWARDS)
        attempt.close()
        assert (result.selected, weights(result)) == (iteration, f"weights {iteration}")
        assert [p.name for p in result.model.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_within_an_iteration_is_never_the_result(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    publish(attempt, 2, step=1)
    result = finish_run(run, attempt, {})
    attempt.close()
    assert (result.selected, weights(result)) == (2, "weights 2")


def test_a_result_is_read_back_as_it_was_and_there_is_none_before_the_end(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    assert read_result(tmp_path) is None
    result = finish_run(run, attempt, REWARDS)
    attempt.close()
    assert read_result(tmp_path) == result
    assert (result.attempts, result.tier, result.evaluation) == (1, "exact", REWARDS)


def test_finishing_again_after_a_kill_gives_the_same(tmp_path: Path, world: tuple[Path, dict[str, Any]]) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    (tmp_path / ".model-new").mkdir()
    (tmp_path / ".model-new" / "half").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("")
    first = finish_run(run, attempt, REWARDS)
    assert finish_run(run, attempt, REWARDS) == first
    attempt.close()
    assert weights(first) == "weights 2"
    assert not (tmp_path / "model" / "old").exists()
    assert not (tmp_path / ".model-new").exists()


def test_a_harmed_checkpoint_never_becomes_the_result(tmp_path: Path, world: tuple[Path, dict[str, Any]]) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    last = attempt.storage.checkpoints()[-1]
    (tmp_path / last.path / "model" / "model.safetensors").write_text("weights X")
    with pytest.raises(CorruptArtifact, match="missing or altered"):
        finish_run(run, attempt, REWARDS)
    attempt.close()
    assert read_result(tmp_path) is None
    assert not (tmp_path / "model").exists()


def test_what_killed_processes_left_is_removed(tmp_path: Path, world: tuple[Path, dict[str, Any]]) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    aside = attempt.folder / "checkpoints" / ".writing-iteration-0003-abc"
    aside.mkdir()
    (aside / "half").write_text("")
    finish_run(run, attempt, REWARDS)
    attempt.close()
    assert not aside.exists()


def step(iteration: int, number: int, loss: float, **more: float) -> StepDone:
    return StepDone(iteration, number, 2 * (iteration - 1) + number, {"loss": loss, **more}, 0.5, replayed=False)


def test_metrics_have_one_row_per_step_and_of_a_step_done_again_the_last(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    first = opened(tmp_path, run)
    note(first, step(1, 1, 0.7), step(1, 2, 0.6), step(2, 1, 9.9))
    for iteration in (1, 2):
        publish(first, iteration)
    first.close()
    second = opened(tmp_path, run, resume=True)
    note(second, step(2, 1, 0.5), step(2, 2, 0.4, entropy=2.0))
    finish_run(run, second, REWARDS)
    second.close()
    rows = pq.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert [(r["iteration"], r["step"], r["total_step"], r["attempt"], r["loss"]) for r in rows] == [
        (1, 1, 1, 1, 0.7),
        (1, 2, 2, 1, 0.6),
        (2, 1, 3, 2, 0.5),
        (2, 2, 4, 2, 0.4),
    ]
    assert [r["entropy"] for r in rows] == [None, None, None, 2.0]


def test_evaluation_has_one_row_per_model_in_order(tmp_path: Path, world: tuple[Path, dict[str, Any]]) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    finish_run(run, attempt, {2: REWARDS[2], 0: REWARDS[0], 1: {"reward": None}})
    attempt.close()
    assert pq.read_table(tmp_path / "evaluation.parquet").to_pylist() == [
        {"iteration": 0, "reward": 0.9, "length": 5.0},
        {"iteration": 1, "reward": None, "length": None},
        {"iteration": 2, "reward": 0.4, "length": 7.0},
    ]


def test_a_run_without_evaluation_and_steps_has_empty_tables(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    finish_run(run, attempt, {})
    attempt.close()
    for name in ("metrics", "evaluation", "samples"):
        assert pq.read_table(tmp_path / f"{name}.parquet").num_rows == 0


def judged(first_row: int, count: int, iteration: int) -> pa.Table:
    rows = [
        {
            "row": row,
            "prompt_id": f"p{row}",
            "prompt": [{"role": "user", "content": f"question {row}"}],
            "prompt_ids": [2],
            "response": f"answer {row} of {iteration}",
            "ids": [5] * (row + 1),
            "ended": True,
            "logp": -1.0,
            "base_logp": -1.0,
            "score": float(row),
        }
        for row in range(first_row, first_row + count)
    ]
    return pa.Table.from_pylist(rows, schema=JUDGED)


def test_samples_are_the_first_held_out_prompts_of_each_evaluated_model(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    for iteration in (0, 2):
        for shard, (start, count) in enumerate([(0, 2), (2, 2), (4, 1)]):
            key = held_out_key(run.held_out_id, "judged", iteration, shard)
            attempt.storage.publish_table(key, judged(start, count, iteration))
    finish_run(run, attempt, {0: REWARDS[0], 2: REWARDS[2]})
    attempt.close()
    rows = pq.read_table(tmp_path / "samples.parquet").to_pylist()
    assert [(r["iteration"], r["response"], r["tokens"], r["score"]) for r in rows] == [
        (t, f"answer {k} of {t}", k + 1, float(k)) for t in (0, 2) for k in range(3)
    ]


def test_samples_of_an_evaluation_made_in_another_way_are_not_mixed_in(
    tmp_path: Path, world: tuple[Path, dict[str, Any]]
) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    other = prepared(world, "evaluation.decoding=greedy")
    assert other.held_out_id != run.held_out_id
    attempt.storage.publish_table(held_out_key(other.held_out_id, "judged", 0, 0), judged(0, 2, 0))
    finish_run(run, attempt, {0: REWARDS[0]})
    attempt.close()
    assert pq.read_table(tmp_path / "samples.parquet").num_rows == 0


def changed(attempt: Attempt, path: tuple[str, ...], value: Any) -> None:
    """Another value in an attempt's record."""
    file = attempt.folder / "attempt.json"
    record = read_json(file)
    node = record
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    replace_file(file, to_json(record))


@pytest.mark.parametrize(
    ("path", "value", "tier"),
    [
        (("pid",), 1, "exact"),
        (("spec", "resources", "engine_replicas"), 7, "exact"),
        (("versions", "torch"), "0.1", "replay"),
        (("machine", "cores"), 999, "replay"),
        (("machine", "processor"), "another", "replay"),
        (("spec", "resources", "trainer_threads"), 9, "replay"),
        (("spec", "resources", "trainer_workers"), 2, "replay"),
        (("judge_source", "judge"), "edited", "replay"),
        (("gpu",), True, "replay"),
        (("spec", "model", "dtype"), "bfloat16", "replay"),
    ],
)
def test_a_run_is_exact_where_all_attempts_computed_alike(
    tmp_path: Path, world: tuple[Path, dict[str, Any]], path: tuple[str, ...], value: Any, tier: str
) -> None:
    run = prepared(world)
    opened(tmp_path, run).close()
    second = opened(tmp_path, run, resume=True)
    second.close()
    assert tier_of(tmp_path) == "exact"
    changed(second, path, value)
    assert tier_of(tmp_path) == tier


def test_the_result_is_written_last_and_is_plain_json(tmp_path: Path, world: tuple[Path, dict[str, Any]]) -> None:
    run = prepared(world)
    attempt = trained(tmp_path, run)
    finish_run(run, attempt, REWARDS)
    attempt.close()
    raw = json.loads((tmp_path / "result.json").read_text())
    assert raw["model"] == str(tmp_path / "model")
    assert raw["selected"] == 2
    written = (tmp_path / "result.json").stat().st_mtime_ns
    assert all(p.stat().st_mtime_ns <= written for p in tmp_path.glob("*.parquet"))
