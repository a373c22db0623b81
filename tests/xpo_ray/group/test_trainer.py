"""Two ranks against one worker: the same losses, steps and checkpoints, whatever the shares of the ranks are."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, Lfm2Config, LlamaConfig

from tests import tables
from tests.tiny import tiny_model_folder
from tests.xpo_ray.architectures import GPT2_SIZES, SIZES
from tests.xpo_ray.group import work
from tests.xpo_ray.group.together import Together
from tests.xpo_ray.test_training import MIXED, RICH, RMSPROP, SPEC, harmed, order, shard, whole
from xpo_ray.checkpoints import load_model, save_tokenizer
from xpo_ray.schedule import Slice, Window
from xpo_ray.spec.algorithm import IpoObjective
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder
from xpo_ray.storage import Checkpoint, LocalStorage
from xpo_ray.training import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

RATE = 1e-3
TIGHT = SPEC.model_copy(update={"micro_batch_tokens": 1})
"""Every example is a micro-batch of its own, so that ranks have unequally many."""
Step = tuple[StepOrder, list[pa.Table]]


def model(folder: Path, **changes: Any) -> ModelSpec:
    return ModelSpec(path=str(folder), **changes)


def alone(spec: TrainingSpec, origin: ModelSpec, path: Path | None = None) -> Trainer:
    return Trainer(spec, str(path or origin.path), origin.dtype, origin=origin)


def windows(table: pa.Table, rows: Sequence[Sequence[int]]) -> list[Step]:
    """A step for each choice of rows of a shard."""
    made = [Window(1, k, 1, (Slice(1, 0, tuple(chosen)),)) for k, chosen in enumerate(rows, 1)]
    return [(order(window, rate=RATE), [table]) for window in made]


def differ(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of any weight; both have the same names."""
    assert mine.keys() == theirs.keys()
    return max(float((mine[name].float() - theirs[name].float()).abs().max()) for name in mine)


def compared(
    two: Together, given: Sequence[Step], spec: TrainingSpec, origin: ModelSpec, rel: float = 1e-5
) -> tuple[Trainer, list[dict[str, float]]]:
    """The same steps by one worker and by two ranks, all of whose metrics must agree."""
    one = alone(spec, origin)
    two.all(work.make, "compared", spec, origin)
    [found, _] = two.all(work.steps, "compared", given)
    for step, metrics in zip(given, found, strict=True):
        assert metrics == pytest.approx(one.step(*step).metrics, rel=rel, abs=2e-6)
    return one, found


def test_the_first_twenty_steps_have_the_losses_of_one_worker(two: Together, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    given = windows(table, [[(k + i) % 4 for i in range(1 + k % 4)] for k in range(20)])
    one = alone(SPEC, model(model_folder))
    two.all(work.make, "twenty", SPEC, model(model_folder))
    [found, _] = two.all(work.steps, "twenty", given)
    told = [(m["skipped"], m.get("loss", 0.0)) for m in (one.step(*s).metrics for s in given)]
    assert [(m["skipped"], m.get("loss", 0.0)) for m in found] == [pytest.approx(each, rel=1e-5) for each in told]


def by_one_step_of_sgd(two: Together, spec: TrainingSpec, origin: ModelSpec, table: pa.Table) -> tuple[Any, Any, Any]:
    """Weights before a step, behind it in one worker, and behind it in two."""
    one = alone(spec, origin)
    one.optimizer = torch.optim.SGD(one.model.parameters(), lr=RATE)  # type: ignore[assignment]
    two.all(work.make, "sgd", spec, origin)
    two.all(work.use_sgd, "sgd", RATE)
    before = one.weights()
    step = (order(whole(table), rate=0.1), [table])
    one.step(*step)
    two.all(work.steps, "sgd", [step])
    return before, one.weights(), two.all(work.weights, "sgd")[0]


@pytest.mark.parametrize("spec", [SPEC, TIGHT], ids=["together", "one by one"])
def test_one_step_of_sgd_gives_the_parameters_of_one_worker(
    two: Together, model_folder: Path, spec: TrainingSpec
) -> None:
    before, mine, theirs = by_one_step_of_sgd(two, spec, model(model_folder), shard(RICH, model_folder))
    assert differ(mine, before) > 1e-3
    assert differ(theirs, mine) < 1e-7


@pytest.mark.parametrize("spec", [SPEC, TIGHT], ids=["together", "one by one"])
def test_shares_may_be_unequal_or_empty(two: Together, model_folder: Path, spec: TrainingSpec) -> None:
    table = shard([tables.pair(0, 2, 0), tables.tie(1, 2, 0), tables.dropped(), tables.pair(1, 0)], model_folder)
    given = windows(table, [[0, 1, 2, 3], [3], [0, 1, 3], [1], [2]])
    one, found = compared(two, given, spec, model(model_folder))
    assert found[-1]["drop_rate"] == 1.0
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6


def test_both_ranks_skip_a_window_whose_bonus_stands_alone_unless_it_may(two: Together, model_folder: Path) -> None:
    table, origin = shard([tables.pair(0, 2, 0), tables.tie(1, 2, 0)], model_folder), model(model_folder)
    one, found = compared(two, windows(table, [[0], [1], [0]]), SPEC, origin)
    assert [metrics["skipped"] for metrics in found] == [0.0, 1.0, 0.0]
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6
    alone_too = SPEC.model_copy(update={"bonus_without_pairs": True})
    _, found = compared(two, windows(table, [[1]]), alone_too, origin)
    assert [metrics["skipped"] for metrics in found] == [0.0]


def test_a_window_in_which_nothing_counts_changes_no_weight(two: Together, model_folder: Path) -> None:
    table = shard([tables.dropped(), tables.tie(1, 2, 0)], model_folder)
    origin = model(model_folder)
    two.all(work.make, "nothing", SPEC, origin)
    [metrics], _ = two.all(work.steps, "nothing", [(order(whole(table), kappa=0.0), [table])])
    assert (metrics["skipped"], metrics["tie_rate"]) == (1.0, 0.5)
    assert {"loss", "grad_norm"}.isdisjoint(metrics)
    assert two.all(work.moments, "nothing") == [0, 0]
    assert differ(two.all(work.weights, "nothing")[0], alone(SPEC, origin).weights()) == 0.0


def test_ranks_that_sleep_between_steps_go_on_the_same(two: Together, model_folder: Path) -> None:
    table, origin = shard(MIXED, model_folder), model(model_folder)
    given = windows(table, [[0, 1, 2, 3], [3], [0, 1]])
    for name in ("awake", "asleep"):
        two.all(work.make, name, SPEC, origin)
    [awake, _], [asleep, _] = two.all(work.steps, "awake", given), two.all(work.drowsy_steps, "asleep", given)
    assert awake == asleep
    assert differ(two.all(work.weights, "awake")[0], two.all(work.weights, "asleep")[0]) == 0.0


@pytest.mark.parametrize("rank", [1, 4])
def test_an_adapter_steps_as_in_one_worker_and_goes_on_from_its_checkpoint(
    two: Together, model_folder: Path, tmp_path: Path, rank: int
) -> None:
    origin, table = model(model_folder, lora=LoraSpec(rank=rank, alpha=16.0)), shard(MIXED, model_folder)
    given = windows(table, [[0, 1, 2, 3], [3], [0, 1], [1, 3]])
    one, _ = compared(two, given[:2], SPEC, origin)
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6
    two.all(work.save, "compared", tmp_path / "made")
    one.save(tmp_path / "own", {}, optimizer=True)
    names = [{p.name for p in (tmp_path / kind / "model").iterdir()} for kind in ("made", "own")]
    assert names[0] == names[1]
    expected = [one.step(*step).metrics["loss"] for step in given[2:]]
    two.all(work.make, "again", SPEC, origin, str(tmp_path / "own" / "model"), tmp_path / "own")
    [found, _] = two.all(work.steps, "again", given[2:])
    assert [m["loss"] for m in found] == pytest.approx(expected, rel=1e-4)
    back = alone(SPEC, origin, tmp_path / "made" / "model")
    back.restore_state(tmp_path / "made")
    assert [back.step(*s).metrics["loss"] for s in given[2:]] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("spec", [SPEC, RMSPROP], ids=["adamw", "rmsprop"])
def test_a_run_goes_on_with_another_number_of_workers(
    two: Together, model_folder: Path, tmp_path: Path, spec: TrainingSpec
) -> None:
    origin, table = model(model_folder), shard(MIXED, model_folder)
    given = windows(table, [[0, 1, 2, 3], [3], [0, 1], [1, 3]])
    one, _ = compared(two, given[:2], spec, origin)
    one.save(tmp_path / "one", {"step": 2}, optimizer=True)
    two.all(work.save, "compared", tmp_path / "two")
    expected = [one.step(*step).metrics["loss"] for step in given[2:]]
    kept_on, _ = two.all(work.steps, "compared", given[2:])
    for kind in ("one", "two"):
        two.all(work.make, "resumed", spec, origin, str(tmp_path / kind / "model"), tmp_path / kind)
        resumed, _ = two.all(work.steps, "resumed", given[2:])
        assert [m["loss"] for m in resumed] == pytest.approx(expected, rel=1e-5)
    assert resumed == kept_on
    single = alone(spec, origin, tmp_path / "two" / "model")
    single.restore_state(tmp_path / "two")
    assert [single.step(*step).metrics["loss"] for step in given[2:]] == pytest.approx(expected, rel=1e-5)


def test_moments_in_several_files_of_each_rank_are_read_as_those_in_one(
    two: Together, model_folder: Path, tmp_path: Path
) -> None:
    origin = model(model_folder)
    given = windows(shard(MIXED, model_folder), [[0, 1, 2, 3], [3], [0, 1], [1, 3]])
    two.all(work.make, "parts", SPEC, origin)
    two.all(work.steps, "parts", given[:2])
    two.all(work.save, "parts", tmp_path / "one")
    assert two.all(work.write_state, "parts", tmp_path / "parts" / "trainer", 20_000) == [None, None]
    files = sorted((tmp_path / "parts" / "trainer").glob("shard-*.safetensors"))
    assert len({p.name.split("-model-")[1] for p in files}) > 3
    assert max(p.stat().st_size for p in files) < 35_000  # a rank's half of an embedding has 24,576 bytes
    assert len(list((tmp_path / "one" / "trainer").glob("shard-*.safetensors"))) == 2
    kept_on, _ = two.all(work.steps, "parts", given[2:])
    two.all(work.make, "parts", SPEC, origin, str(tmp_path / "one" / "model"), tmp_path / "parts")
    resumed, _ = two.all(work.steps, "parts", given[2:])
    assert resumed == kept_on
    single = alone(SPEC, origin, tmp_path / "one" / "model")
    single.restore_state(tmp_path / "parts")
    expected = [m["loss"] for m in kept_on]
    assert [single.step(*step).metrics["loss"] for step in given[2:]] == pytest.approx(expected, rel=1e-5)


def test_what_is_saved_is_what_one_worker_saves(two: Together, model_folder: Path, tmp_path: Path) -> None:
    origin = model(model_folder)
    two.all(work.make, "saved", SPEC, origin)
    two.all(work.save, "saved", tmp_path / "two")
    alone(SPEC, origin).save(tmp_path / "one", {"step": 1}, optimizer=False)
    for name in ("config.json", "generation_config.json"):
        mine, theirs = (json.loads((tmp_path / k / "model" / name).read_text()) for k in ("two", "one"))
        assert mine == theirs
    files = [{p.name for p in (tmp_path / k / "model").iterdir()} for k in ("two", "one")]
    assert files[0] == files[1]
    mine, theirs = (dict(load_model(tmp_path / k / "model", "float32").state_dict()) for k in ("two", "one"))
    assert differ(mine, theirs) == 0.0
    assert json.loads((tmp_path / "two" / "trainer" / "position.json").read_text()) == {"step": 1}


def test_a_model_of_several_files_is_written_and_read_by_rows(
    two: Together, model_folder: Path, tmp_path: Path
) -> None:
    two.all(work.make, "several", SPEC, model(model_folder))
    two.all(work.write_model, "several", tmp_path / "model", 40_000)
    sizes = [p.stat().st_size for p in sorted((tmp_path / "model").glob("model-*-of-*.safetensors"))]
    assert len(sizes) > 3
    assert max(sizes) < 55_000  # an embedding alone has 49,152 bytes
    assert (
        differ(dict(load_model(tmp_path / "model", "float32").state_dict()), two.all(work.weights, "several")[0]) == 0
    )
    two.all(work.make, "read", SPEC, model(tmp_path / "model"))
    assert differ(*(two.all(work.weights, name)[0] for name in ("read", "several"))) == 0.0
    for own, every in two.all(work.held_numbers, "several"):
        assert own < 0.51 * every


def random_model(folder: Path, tokenizer_from: Path, config: Any) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(tokenizer_from, folder)
    return folder


TIED: dict[str, Any] = {"vocab_size": 384, "tie_word_embeddings": True}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES | TIED),
        GPT2Config(**GPT2_SIZES | TIED),
        Lfm2Config(**SIZES | TIED | {"layer_types": ["conv", "full_attention"]}),
    ],
    ids=["llama", "gpt2", "lfm2"],
)
def test_tied_embeddings_and_modules_of_other_kinds_are_trained_as_in_one_worker(
    two: Together, model_folder: Path, tmp_path: Path, config: Any
) -> None:
    folder = random_model(tmp_path / "tied", model_folder, config)
    table = shard(MIXED, folder)
    one, _ = compared(two, windows(table, [[0, 1, 2, 3], [3]]), SPEC, model(folder))
    assert two.all(work.make, "again", SPEC, model(folder)) == [one.path.reason] * 2
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6
    assert "lm_head.weight" not in one.weights()


def test_weights_that_are_tied_and_yet_differ_are_refused(two: Together, tmp_path: Path) -> None:
    tiny_model_folder(tmp_path / "untied")
    config = json.loads((tmp_path / "untied" / "config.json").read_text())
    (tmp_path / "untied" / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    for _, error in two.tried(work.make, "untied", SPEC, model(tmp_path / "untied")):
        assert "set tie_word_embeddings to false" in error[1]


def test_bfloat16_computes_what_one_worker_computes(two: Together, model_folder: Path) -> None:
    origin, table = model(model_folder, dtype="bfloat16"), shard(MIXED, model_folder, "bfloat16")
    given = windows(table, [[0, 3], [0, 1, 2, 3]])
    one, found = compared(two, given[:1], TIGHT, origin, rel=1e-2)
    assert two.all(work.make, "half", TIGHT, origin) == [one.path.reason] * 2
    assert found[0]["loss/preference"] == pytest.approx(math.log(2), abs=5e-3)
    assert found[0]["rewards/margins"] == pytest.approx(0.0, abs=5e-3)


def test_in_bfloat16_one_step_of_sgd_moves_the_weights_where_one_worker_moves_them(
    two: Together, model_folder: Path
) -> None:
    table, origin = shard(RICH, model_folder, "bfloat16"), model(model_folder, dtype="bfloat16")
    before, mine, theirs = by_one_step_of_sgd(two, SPEC, origin, table)
    assert {w.dtype for w in theirs.values()} == {torch.float32}
    moved = torch.cat([(mine[n] - before[n]).flatten() for n in mine])
    apart = torch.cat([(mine[n] - theirs[n]).flatten() for n in mine])
    # bfloat16 rounds a gradient to 0.4 %, and micro-batches are others
    assert float(apart.norm() / moved.norm()) < 0.02


def test_layers_that_are_computed_again_give_the_same_step(two: Together, model_folder: Path) -> None:
    spec = SPEC.model_copy(update={"activation_checkpointing": True})
    table = shard(MIXED, model_folder)
    one, _ = compared(two, windows(table, [[0, 1, 2, 3], [3]]), spec, model(model_folder))
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6


def test_a_head_in_chunks_gives_the_same_step(two: Together, model_folder: Path) -> None:
    table = shard(MIXED, model_folder)
    before = two.all(work.chunk_logits, 3 * 384)[0]
    try:
        one, _ = compared(two, windows(table, [[0, 1, 2, 3], [3]]), SPEC, model(model_folder))
    finally:
        two.all(work.chunk_logits, before)
    assert differ(two.all(work.weights, "compared")[0], one.weights()) < 1e-6


def test_a_loss_that_is_not_finite_is_told_by_all_ranks_and_leaves_no_trace(two: Together, model_folder: Path) -> None:
    table, origin = shard(MIXED, model_folder), model(model_folder)
    two.all(work.make, "harmed", SPEC, origin)
    bad = [(order(whole(table, 7)), [harmed(table, 0, math.nan)])]
    for _, error in two.tried(work.steps, "harmed", bad):
        assert error[0] == "TrainingDiverged"
        assert "the loss of step 7 of iteration 1 is nan; lower training.learning_rate" in error[1]
    good = [(order(whole(table)), [table])]
    one = alone(SPEC, origin)
    [found], _ = two.all(work.steps, "harmed", good)
    assert found == pytest.approx(one.step(*good[0]).metrics, rel=1e-5, abs=2e-6)


def test_a_gradient_that_is_not_finite_is_told_by_all_ranks_and_changes_no_weight(
    two: Together, model_folder: Path
) -> None:
    table = harmed(shard([tables.pair(0, 2)], model_folder), 0, 1.5e19)
    two.all(work.make, "steep", SPEC, model(model_folder))
    steep = [(order(whole(table, 9), kappa=0.0, objective=IpoObjective(kind="ipo")), [table])]
    for _, error in two.tried(work.steps, "steep", steep):
        assert error[0] == "TrainingDiverged"
        assert "the gradient norm of step 9 of iteration 1 is " in error[1]
    assert differ(two.all(work.weights, "steep")[0], alone(SPEC, model(model_folder)).weights()) == 0.0


def test_a_folder_that_cannot_be_written_is_told_by_all_ranks(
    two: Together, model_folder: Path, tmp_path: Path
) -> None:
    two.all(work.make, "full", SPEC, model(model_folder))
    (tmp_path / "file").write_text("in the way")
    errors = [error for _, error in two.tried(work.save, "full", tmp_path / "file")]
    assert all(errors)
    assert "in the way" in (tmp_path / "file").read_text()
    assert two.all(work.canary, "full", [1, 2, 3])[0] == two.all(work.canary, "full", [1, 2, 3])[1]


def test_weights_under_other_names_are_refused_with_a_remedy(two: Together, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny_model_folder(tmp_path / "other")
    file = tmp_path / "other" / "model.safetensors"
    save_file({k.removeprefix("model."): v for k, v in load_file(file).items()}, file, {"format": "pt"})
    for _, error in two.tried(work.make, "other", SPEC, model(tmp_path / "other")):
        assert error[0] == "ModelError"
        assert "has no weights under the name model.embed_tokens.weight" in error[1]
        assert "set resources.trainer_workers to 1" in error[1]


def draft(name: str = "iteration-0000-step-000001") -> Checkpoint:
    return Checkpoint(name, "", 0, 1, 1, None, 0.0, (), {})


def test_a_checkpoint_is_published_once_and_told_to_all(two: Together, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "attempts" / "0001").mkdir(parents=True)
    (tmp_path / "attempts" / "0001" / "adopted.json").write_text('{"commits": [], "checkpoints": []}')
    two.all(work.make, "published", SPEC, model(model_folder))
    [first, other] = two.all(work.published, "published", tmp_path, draft())
    assert other is None
    [stands] = LocalStorage(tmp_path, 1).checkpoints()
    assert stands == first
    assert "model/model.safetensors" in first.files
    again, _ = two.all(work.published, "published", tmp_path, draft())
    assert again == first
