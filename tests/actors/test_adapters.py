"""Whole runs that train an adapter: one set of processes serves the policy and the base, and the result is a merged model."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.actors.conftest import Ran, World
from tests.running import model_digest
from xpo_ray.adapters import Adapter, read_adapter
from xpo_ray.checkpoints import load_model
from xpo_ray.errors import ResumeError
from xpo_ray.logprobs import PromptGroup, plain
from xpo_ray.reporting import ActorReplaced, EvaluationDone, IterationPublished, StepDone
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.storage import LocalStorage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]

LORA = {"rank": 4, "alpha": 16.0}
IDS = torch.tensor([[5, 9, 20, 31, 40, 7]])


def adapted(world: World, **sections: Any) -> dict[str, Any]:
    """The world's spec with an adapter and a learning rate at which it shows."""
    training = {**world.raw["training"], "learning_rate": 1.0e-2}
    return {**world.raw, "model": {**world.raw["model"], "lora": LORA}, "training": training, **sections}


def scored(root: Path, iteration: int) -> list[dict[str, Any]]:
    """The rows of all SCORED shards of an iteration."""
    storage, tables = LocalStorage(root, 1), []
    while (c := storage.find(f"iteration-{iteration:04d}/scored/shard-{len(tables):05d}")) is not None:
        tables.append(storage.read_table(c))
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


@torch.no_grad()
def logits(model: Any) -> Tensor:
    out: Tensor = model(input_ids=IDS).logits
    return out


def assert_merged(world: World, ran: Ran) -> None:
    """The result is a plain model unlike the base; its last checkpoint is an adapter over an untouched base."""
    base = load_model(world.folder / "base", "float32")
    result = AutoModelForCausalLM.from_pretrained(ran.result.model)
    assert [n for n, _ in result.named_parameters()] == [n for n, _ in base.named_parameters()]
    assert not (ran.result.model / "adapter_config.json").exists()
    storage = LocalStorage(ran.result.root, 1)
    folder = storage.folder(storage.checkpoints()[-1]) / "model"
    assert not (folder / "model.safetensors").exists()
    adapter = Adapter(ModelSpec(path=str(world.folder / "base")), LoraSpec(**LORA))
    adapter.put(read_adapter(folder))
    torch.testing.assert_close(logits(result), logits(adapter.model), atol=1e-4, rtol=1e-4)
    assert float((logits(result) - logits(base)).abs().max()) > 1e-3
    with adapter.off():
        assert torch.equal(logits(adapter.model), logits(base))


def assert_begins_at_the_reference(ran: Ran, iteration: int) -> None:
    first = next(s for s in ran.heard.of(StepDone) if (s.iteration, s.step) == (iteration, 1))
    assert first.metrics["loss/preference"] == pytest.approx(math.log(2), abs=1e-5)


@pytest.fixture(scope="module")
def selm_adapter(world: World) -> Ran:
    return world.run("selm-adapter", raw=adapted(world))


def test_selm_trains_an_adapter_and_ends_with_a_merged_model(world: World, selm_adapter: Ran) -> None:
    assert len(selm_adapter.heard.of(EvaluationDone)) == 3
    assert_merged(world, selm_adapter)
    for iteration in (1, 2):
        assert_begins_at_the_reference(selm_adapter, iteration)


@pytest.mark.faults
def test_deaths_do_not_change_a_bit_of_it(
    world: World, selm_adapter: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPO_CRASH_AT", "step.after_step:5,checkpoint.after_files:1")
    monkeypatch.setenv("XPO_CRASH_MARK", str(tmp_path / "mark"))
    ran = world.run("selm-adapter-disturbed", raw=adapted(world))
    assert len(ran.heard.of(ActorReplaced)) == 2
    assert model_digest(ran.result.root) == model_digest(selm_adapter.result.root)


def online(world: World) -> dict[str, Any]:
    """A fully online run with two checkpoints."""
    data = {k: v for k, v in world.raw["data"].items() if k != "partitions"}
    training = {**adapted(world)["training"], "checkpoint_every_steps": 4}
    return adapted(world, algorithm={"kind": "xpo", "alpha": 0.01}, data=data, training=training)


@pytest.fixture(scope="module")
def xpo_adapter(world: World) -> Ran:
    return world.run("xpo-adapter", raw=online(world))


@pytest.mark.long
def test_xpo_online_hands_the_adapter_over_and_its_reference_stays_the_base(world: World, xpo_adapter: Ran) -> None:
    ran = xpo_adapter
    assert_merged(world, ran)
    assert [p.iteration for p in ran.heard.of(IterationPublished) if p.checkpoint is not None] == [4, 6]
    base, rows = load_model(world.folder / "base", "float32"), scored(ran.result.root, 6)
    versions = [c["version"] for row in rows for c in row["candidates"]]
    assert (set(versions[::2]), set(versions[1::2])) == ({5}, {0})
    for row in rows:
        group = PromptGroup(row["prompt_ids"], tuple(c["ids"] for c in row["candidates"]))
        with torch.no_grad():
            expected = plain(base, [group]).logp_S.tolist()
        known = [(a, b) for a, b in zip(row["reference_logps"], expected, strict=True) if a is not None]
        assert [a for a, _ in known] == pytest.approx([b for _, b in known], abs=1e-3)
    assert ran.heard.of(StepDone)[-1].metrics["kl/reference_policy"] != 0.0


@pytest.mark.faults
def test_a_trainer_that_dies_before_the_first_checkpoint_brings_the_policy_back_to_the_base(
    world: World, xpo_adapter: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XPO_CRASH_AT", "step.after_step:3")
    monkeypatch.setenv("XPO_CRASH_MARK", str(tmp_path / "mark"))
    ran = world.run("xpo-adapter-disturbed", raw=online(world))
    assert len(ran.heard.of(ActorReplaced)) == 1
    assert model_digest(ran.result.root) == model_digest(xpo_adapter.result.root)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("warm", {"kind": "online_dpo", "warmup_iterations": 1}),
        (
            "ema",
            {
                "kind": "custom",
                "draws": [{"source": "policy"}, {"source": "reference"}],
                "reference": "ema",
                "comparator": "none",
            },
        ),
    ],
)
def test_references_that_are_neither_the_base_nor_the_policy_have_an_adapter_of_their_own(
    world: World, name: str, algorithm: dict[str, Any]
) -> None:
    ran = world.run(f"{name}-adapter", raw=adapted(world, algorithm=algorithm))
    assert_merged(world, ran)
    assert_begins_at_the_reference(ran, 1)
    second = next(s for s in ran.heard.of(StepDone) if (s.iteration, s.step) == (2, 1))
    assert (second.metrics["loss/preference"] == pytest.approx(math.log(2), abs=1e-5)) == (name == "warm")


@pytest.mark.long
def test_in_bfloat16_it_ends_with_a_merged_model_in_float32(world: World) -> None:
    ran = world.run(
        "bfloat16-adapter", "model.dtype=bfloat16", "training.activation_checkpointing=true", raw=adapted(world)
    )
    assert_merged(world, ran)
    assert {p.dtype for p in AutoModelForCausalLM.from_pretrained(ran.result.model).parameters()} == {torch.float32}
    first = [s.metrics["loss/preference"] for s in ran.heard.of(StepDone) if s.step == 1]
    assert first == pytest.approx([math.log(2)] * 2, abs=1e-2)


def test_another_rank_refuses_to_resume(world: World, selm_adapter: Ran) -> None:
    raw = adapted(world)
    raw["model"] = {**raw["model"], "lora": {**LORA, "rank": 8}}
    with pytest.raises(ResumeError, match="rank"):
        world.run("selm-adapter", raw=raw, resume=True)
    record = json.loads((selm_adapter.result.root / "result.json").read_text())
    assert record["selected"] == 2
