"""The trainer on each device: a step in bfloat16 beside one in float32 on the CPU, a checkpoint, and a GPU's peak memory beside
the plan's bound."""

import math
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from tests import tables
from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet
from tests.xpo_ray.test_training import MIXED, PROMPTS, RATE, SPEC, order, triple, whole
from xpo_ray.checkpoints import load_model
from xpo_ray.devices import CPU, computing_on
from xpo_ray.logprobs import choose
from xpo_ray.plan import plan
from xpo_ray.scoring import score_references
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.spec.loading import parse_spec
from xpo_ray.spec.run import RunSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.training import Trainer

Dtype = Literal["float32", "bfloat16"]
LORA = LoraSpec(rank=2, alpha=4.0)


def scored(folder: Path, device: torch.device, dtype: Dtype) -> pa.Table:
    """The window of MIXED, its reference the model itself, computed as the trainer computes."""
    table = tables.preferences(PROMPTS, [triple(i) for i in range(len(MIXED))], MIXED)
    model = load_model(folder, "float32").to(device)
    path = choose(model, dtype).log_probs
    return score_references(table, model, path, dtype=dtype, micro_batch_tokens=10_000)


def made(folder: Path, dtype: Dtype, lora: LoraSpec | None = None, **changes: Any) -> Trainer:
    spec = SPEC.model_copy(update=changes)
    return Trainer(spec, str(folder), dtype, origin=ModelSpec(path=str(folder), dtype=dtype, lora=lora))


def moved(one: Trainer, folder: Path) -> Tensor:
    """What a step has added to all weights, in one row."""
    before = load_model(folder, "float32").state_dict()
    return torch.cat([(after - before[name]).flatten() for name, after in one.weights().items()])


@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_is_that_of_float32_on_the_cpu(
    broad_folder: Path, device: torch.device, dtype: Dtype, again: bool
) -> None:
    with computing_on(CPU):
        table = scored(broad_folder, CPU, "float32")
        one = made(broad_folder, "float32")
        expected = one.step(order(whole(table), rate=RATE), [table]).metrics
    table = scored(broad_folder, device, dtype)
    other = made(broad_folder, dtype, activation_checkpointing=again)
    assert (other.path.reason, other.model.device.type) == (None, device.type)
    found = other.step(order(whole(table), rate=RATE), [table]).metrics
    exact = dtype == "float32"
    assert found["loss/preference"] == pytest.approx(math.log(2), abs=1e-3 if exact else 1e-2)
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-3 if exact else 0.05)
    assert found["logps/chosen"] == pytest.approx(expected["logps/chosen"], rel=1e-4 if exact else 1e-2)
    mine, theirs = moved(one, broad_folder), moved(other, broad_folder)
    assert float((mine - theirs).norm() / mine.norm()) < (0.01 if exact else 0.2)


@pytest.mark.parametrize("lora", [None, LORA], ids=["all weights", "adapter"])
def test_a_checkpoint_takes_weights_and_moments_along(
    broad_folder: Path, device: torch.device, lora: LoraSpec | None, tmp_path: Path
) -> None:
    table = scored(broad_folder, device, "bfloat16")
    one = made(broad_folder, "bfloat16", lora)
    one.step(order(whole(table), rate=RATE), [table])
    one.save(tmp_path, {"step": 1}, optimizer=True)
    origin = ModelSpec(path=str(broad_folder), dtype="bfloat16", lora=lora)
    other = Trainer(SPEC, str(tmp_path / "model"), "bfloat16", origin=origin)
    other.restore_state(tmp_path)
    steps = [order(whole(table, 2), rate=RATE), [table]]
    assert other.step(*steps).metrics == pytest.approx(one.step(*steps).metrics, rel=1e-2, abs=1e-3)
    assert {w.device for w in other.weights().values()} == {CPU}
    for name, tensor in one.weights().items():
        torch.testing.assert_close(other.weights()[name], tensor, atol=2e-3, rtol=0.0)


PROMPT, RESPONSE, BATCH = 256, 64, 8


def planned(folder: Path, checkpointing: bool) -> tuple[RunSpec, int]:
    """A run in bfloat16, and the bytes of the trainer's tensors at most, as its plan has them."""
    raw = {
        "seed": 0,
        "model": {"path": str(folder), "dtype": "bfloat16"},
        "data": {
            "source": {"kind": "files", "path": str(write_parquet(folder / "pairs.parquet", tiny_pairs(BATCH)))},
            "max_prompt_tokens": PROMPT,
            "max_response_tokens": RESPONSE,
            "partitions": 1,
        },
        "algorithm": {"kind": "selm"},
        "sampling": {"max_new_tokens": RESPONSE},
        "judge": {"kind": "python", "function": "a:b"},
        "training": {"batch_size": BATCH, "activation_checkpointing": checkpointing},
        "output": {"path": "/o"},
    }
    spec = parse_spec(raw)
    [trainer] = [role for role in plan(spec).to_json()["roles"] if role["role"] == "trainer"]
    parts: dict[str, int] = (trainer.get("on_gpu") or trainer)["parts"]
    return spec, sum(size for name, size in parts.items() if name not in ("libraries", "cuda"))


def long_window() -> pa.Table:
    """As many tokens as the plan reckons with."""

    def ids(seed: int, n: int) -> list[int]:
        drawn: list[int] = torch.randint(3, 300, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
        return drawn

    origins = ("reference", "chosen", "rejected")
    candidates = [
        [tables.candidate(origin, ids(10 * i + k, RESPONSE)) for k, origin in enumerate(origins)] for i in range(BATCH)
    ]
    prompts = [ids(1000 + i, PROMPT) for i in range(BATCH)]
    return tables.scored(prompts, candidates, [tables.pair(0, 2, 0)] * BATCH, [[-400.0, None, -400.0]] * BATCH)


def stepped(folder: Path, spec: TrainingSpec) -> Trainer:
    one, table = Trainer(spec, str(folder), "bfloat16"), long_window()
    for number in (1, 2):  # moments are made in the first
        one.step(order(whole(table, number), rate=1e-5), [table])
    return one


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_peak_memory_of_a_step_is_within_the_plans_bound(
    device: torch.device, tmp_path: Path, checkpointing: bool
) -> None:
    large = device.type == "cuda"
    folder = tiny_model_folder(tmp_path / "model", hidden=1024 if large else 64, layers=8 if large else 2)
    spec, bound = planned(folder, checkpointing)
    if large:
        torch.cuda.reset_peak_memory_stats()
    one = stepped(folder, spec.training)
    held = sum(p.nbytes for p in one.model.parameters())
    held += sum(t.nbytes for state in one.optimizer.state.values() for t in state.values())
    peak = torch.cuda.max_memory_allocated() if large else held  # a CPU tells no peak of tensors alone
    print(f"FIGURES {device.type}: {peak:,} of at most {bound:,} bytes")
    assert held <= peak <= bound
