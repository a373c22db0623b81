"""Whole runs on a real Ray, in this process: what a run leaves, every algorithm, both layouts, and deaths of actors."""

import json
import math
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from tests.actors.conftest import Ran, World
from tests.running import model_digest
from xpo_ray.errors import JudgeFailed, OutputError, ResumeError, TrainingDiverged
from xpo_ray.reporting import (
    ActorReplaced,
    EvaluationDone,
    IterationPublished,
    IterationStarted,
    RunFinished,
    RunResumed,
    ShardDone,
    StepDone,
)
from xpo_ray.storage import LocalStorage, lineage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]


def committed(root: Path, stage: str, iteration: int, attempt: int = 1) -> pa.Table:
    """All shards of a stage of an iteration, in order."""
    storage = LocalStorage(root, attempt)
    tables = []
    while (c := storage.find(f"iteration-{iteration:04d}/{stage}/shard-{len(tables):05d}")) is not None:
        tables.append(storage.read_table(c))
    return pa.concat_tables(tables)


def test_a_run_ends_with_a_model_that_transformers_loads(selm: Ran) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(selm.result.model)
    tokenizer = AutoTokenizer.from_pretrained(selm.result.model)
    assert sum(p.numel() for p in model.parameters()) > 10_000
    assert tokenizer.chat_template is not None


def test_every_iteration_begins_at_the_reference_with_loss_log_2(selm: Ran) -> None:
    first = [s for s in selm.heard.of(StepDone) if s.step == 1]
    assert len(first) == 2
    for step in first:
        assert step.metrics["loss/preference"] == pytest.approx(math.log(2), abs=1e-5)
        assert step.metrics["kl/reference_policy"] == pytest.approx(0.0, abs=1e-3)


def test_kappa_of_selm_is_alpha_times_beta(selm: Ran) -> None:
    assert [i.kappa for i in selm.heard.of(IterationStarted)] == pytest.approx([1e-3, 1e-3])


def test_each_prompt_is_judged_and_trained_on_once(selm: Ran) -> None:
    rows = [row for t in (1, 2) for row in committed(selm.result.root, "scored", t)["row"].to_pylist()]
    assert sorted(rows) == list(range(48))
    assert len(selm.heard.of(StepDone)) == 6


def test_drawn_token_ids_are_kept_with_the_version_that_drew_them(selm: Ran) -> None:
    for t in (1, 2):
        for candidates in committed(selm.result.root, "scored", t)["candidates"].to_pylist():
            draw, chosen, rejected = candidates
            assert (draw["origin"], draw["version"]) == ("reference", t - 1)
            assert (chosen["origin"], rejected["origin"]) == ("chosen", "rejected")
            assert 0 < len(draw["ids"]) <= 12


def test_the_lineage_of_the_result_holds_each_step_once(selm: Ran) -> None:
    checkpoints = LocalStorage(selm.result.root, 1).checkpoints()
    steps = [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger]
    assert steps == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]


def test_evaluations_compare_with_the_base_and_the_previous_iterate(selm: Ran) -> None:
    evaluated = {e.iteration: e.metrics for e in selm.heard.of(EvaluationDone)}
    assert sorted(evaluated) == [0, 1, 2]
    assert evaluated[0]["kl/k1"] == pytest.approx(0.0, abs=1e-4)
    assert evaluated[0]["win_rate/base"] is None
    for t in (1, 2):
        assert evaluated[t]["prompts"] == 8
        assert 0.0 <= (evaluated[t]["win_rate/base"] or 0.0) <= 1.0
        assert evaluated[t]["implicit_accuracy"] is not None
    assert evaluated[1]["win_rate/base"] == evaluated[1]["win_rate/previous"]


def test_metrics_samples_and_evaluation_are_left_as_parquet(selm: Ran) -> None:
    metrics = pq.read_table(selm.result.root / "metrics.parquet").to_pydict()
    assert metrics["total_step"] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "loss/preference", "loss/bonus", "rewards/margins", "entropy", "draws/eos_rate"} <= set(metrics)
    samples = pq.read_table(selm.result.root / "samples.parquet").to_pylist()
    assert {s["iteration"] for s in samples} == {0, 1, 2}
    assert len(samples) == 24
    assert pq.read_table(selm.result.root / "evaluation.parquet").num_rows == 3


@pytest.mark.long
def test_a_colocated_run_ends_with_the_same_bits(world: World, selm: Ran) -> None:
    colocated = world.run("colocated", "resources.layout=colocated")
    assert model_digest(colocated.result.root) == model_digest(selm.result.root)


def test_dead_actors_are_replaced_and_the_result_is_bit_equal(
    world: World, selm: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "XPO_CRASH_AT", "table.after_data:3,table.after_commit:2,step.after_step:2,checkpoint.after_files:2"
    )
    monkeypatch.setenv("XPO_CRASH_MARK", str(tmp_path / "mark"))
    ran = world.run("disturbed")
    replaced = {e.role.split("/")[0] for e in ran.heard.of(ActorReplaced)}
    assert "trainer" in replaced
    assert len(list(tmp_path.glob("mark.*"))) == 4
    assert ran.heard.of(RunFinished)[-1].replayed_steps > 0
    assert model_digest(ran.result.root) == model_digest(selm.result.root)


def test_a_second_start_in_the_same_folder_is_refused_and_a_resume_of_a_finished_run_answers(
    world: World, selm: Ran
) -> None:
    with pytest.raises(OutputError, match="--resume"):
        world.run("undisturbed")
    again = world.run("undisturbed", resume=True)
    assert again.result == selm.result
    assert again.heard.events == []
    with pytest.raises(ResumeError, match=r"algorithm\.beta: was 0\.1, is 0\.2"):
        world.run("undisturbed", "algorithm.beta=0.2", resume=True)


@pytest.mark.long
def test_xpo_never_draws_the_same_response_twice_and_accumulates(world: World) -> None:
    algorithm = {"kind": "xpo", "alpha": [0.01, 0.0], "data": "accumulate"}
    ran = world.run("xpo", raw={**world.raw, "algorithm": algorithm})
    pairs = committed(ran.result.root, "scored", 1)["candidates"].to_pylist()
    assert all([c["origin"] for c in p] == ["policy", "reference"] for p in pairs)
    assert all(p[0]["ids"] != p[1]["ids"] for p in pairs)
    assert [s.iteration for s in ran.heard.of(StepDone)].count(2) == 6
    assert [i.kappa for i in ran.heard.of(IterationStarted)] == [0.01, 0.0]
    versions = [c["version"] for p in committed(ran.result.root, "scored", 2)["candidates"].to_pylist() for c in p]
    assert set(versions[::2]) == {1}
    assert set(versions[1::2]) == {0}


def test_online_dpo_hands_weights_over_by_object_ref(world: World) -> None:
    raw = {**world.raw, "algorithm": {"kind": "online_dpo", "draws": 3}}
    raw["data"] = {k: v for k, v in world.raw["data"].items() if k != "partitions"}
    raw["training"] = {**world.raw["training"], "checkpoint_every_steps": 4}
    ran = world.run("online", raw=raw)
    published = ran.heard.of(IterationPublished)
    assert len(published) == 6
    assert [p.iteration for p in published if p.checkpoint is not None] == [4, 6]
    last = committed(ran.result.root, "scored", 6)["candidates"].to_pylist()
    assert all(len(p) == 3 and {c["version"] for c in p} == {5} for p in last)


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param({"kind": "iterative_dpo", "decoding": "greedy"}, marks=pytest.mark.long),
        pytest.param({"kind": "dpo"}, marks=pytest.mark.long),
        pytest.param({"kind": "sdpo", "warmup_iterations": 1, "warmup_kind": "dpo"}, marks=pytest.mark.long),
        pytest.param(
            {
                "kind": "custom",
                "draws": [{"source": "policy", "samples": 2}, {"source": "reference"}],
                "dataset_candidates": True,
                "pairing": "best_random",
                "reference": "ema",
                "comparator": "both",
                "kappa": 0.001,
                "objective": {"kind": "ipo"},
            },
            marks=pytest.mark.long,
        ),
    ],
    ids=lambda a: a["kind"],
)
def test_every_algorithm_row_runs_to_its_end(world: World, algorithm: dict[str, object]) -> None:
    ran = world.run(str(algorithm["kind"]), raw={**world.raw, "algorithm": algorithm})
    assert len(ran.heard.of(StepDone)) == 6
    assert len(ran.heard.of(EvaluationDone)) == 3
    assert model_digest(ran.result.root) != ""
    assert all(math.isfinite(s.metrics["loss"]) for s in ran.heard.of(StepDone))


@pytest.mark.long
def test_the_papers_finer_settings_take_effect_in_a_run_and_in_its_resume(world: World) -> None:
    """β by iteration, RMSprop, stretches of the rows, no step of a batch that is not full, best against second best."""
    settings = [
        "algorithm={kind: custom, draws: [{source: policy, samples: 3}], pairing: best_second, reference: previous, "
        "beta: [0.5, 0.1], optimizer: carry}",
        "training={batch_size: 5, learning_rate: 1.0e-3, optimizer: rmsprop, last_batch: drop, checkpoint_every_steps: 1}",
        "data.portions=consecutive",
    ]
    ran = world.run("finer", *settings)
    root = ran.result.root
    tables = [committed(root, "preferences", t) for t in (1, 2)]
    half = sum(t.num_rows for t in tables) // 2
    assert [sorted(t["row"].to_pylist()) for t in tables] == [list(range(half)), list(range(half, 2 * half))]
    assert len(ran.heard.of(StepDone)) == 2 * (half // 5)
    for row in (row for t in tables for row in t.to_pylist() if row["preference"]["outcome"] == "pair"):
        scores, p = row["judgement"]["scores"], row["preference"]
        assert [scores[p[k]] for k in ("chosen", "rejected")] == sorted(scores, reverse=True)[:2]
    moments = next(root.rglob("trainer/state.safetensors"))
    with safe_open(moments, "numpy") as state:
        assert {key.rpartition("/")[2] for key in state.keys()} == {"rng", "step", "square_avg"}  # noqa: SIM118
    with pytest.raises(ResumeError, match=r"training\.optimizer: was 'rmsprop', is unset"):
        world.run("finer", *settings, "training.optimizer=adamw", resume=True)


@pytest.mark.long
def test_a_judge_that_fails_stops_the_run_and_a_mended_one_goes_on_without_a_loss(world: World, selm: Ran) -> None:
    (world.folder / "moody.py").write_text("def score(prompt, responses):\n    raise RuntimeError('out of order')\n")
    with pytest.raises(JudgeFailed, match=r"failed on 8 of 8 prompts.*out of order"):
        world.run("moody", "judge.function=moody:score", "judge.retries=0")
    (world.folder / "moody.py").write_text((world.folder / "vowels.py").read_text())
    mended = world.run("moody", "judge.function=moody:score", resume=True)
    assert model_digest(mended.result.root) == model_digest(selm.result.root)
    assert mended.result.tier == "replay"


@pytest.mark.long
def test_a_loss_that_is_not_finite_stops_the_run_and_the_last_checkpoint_stays(world: World) -> None:
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        world.run("diverged", "training.learning_rate=1.0e+38", "training.checkpoint_every_steps=1")
    root = world.folder / "diverged"
    checkpoints = LocalStorage(root, 1).checkpoints()
    assert checkpoints
    assert LocalStorage(root, 1).folder(checkpoints[-1]).is_dir()
    journal = (root / "attempts/0001/journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["status"] == "failed"


@pytest.mark.usefixtures("selm")
def test_a_changed_dataset_refuses_to_resume(world: World) -> None:
    data = world.folder / "train.parquet"
    before = data.read_bytes()
    rows = pq.read_table(data)
    pq.write_table(rows.slice(0, rows.num_rows - 1), data)
    try:
        with pytest.raises(ResumeError, match="content of the dataset"):
            world.run("undisturbed", resume=True)
    finally:
        data.write_bytes(before)


@pytest.mark.long
def test_nothing_is_drawn_twice_by_a_resume(world: World, selm: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed run (its trainer may not die) is taken up by a second attempt with other resources."""
    monkeypatch.setenv("XPO_CRASH_AT", "step.after_step:5")
    with pytest.raises(Exception, match="trainer died"):
        world.run("twice", "resources.max_restarts=0")
    monkeypatch.delenv("XPO_CRASH_AT")
    drawn = {
        p.stem.split(".")[0] for p in (world.folder / "twice/attempts/0001/tables").glob("iteration-*/scored/*.json")
    }
    assert drawn
    ran = world.run("twice", "resources.max_restarts=1", "resources.max_shards_in_flight=2", resume=True)
    resumed = ran.heard.of(RunResumed)
    assert resumed[0].adopted_tables > 0
    fresh = {(e.iteration, e.shard, e.stage) for e in ran.heard.of(ShardDone) if e.fresh}
    adopted = json.loads((world.folder / "twice/attempts/0002/adopted.json").read_text())["commits"]
    assert not {c["key"] for c in adopted} & {f"iteration-{t:04d}/{stage}/shard-{k:05d}" for t, k, stage in fresh}
    assert model_digest(ran.result.root) == model_digest(selm.result.root)
    assert ran.result.attempts == 2
    assert os.path.samefile(ran.result.root, world.folder / "twice")
