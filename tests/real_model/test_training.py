"""A SELM window on trained weights: log 2 where policy and reference are one model, and a checkpoint that goes on."""

import math
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests import tables
from tests.real_model.questions import ANSWERS, QUESTIONS, answer_ids, prompt_ids, tokenizer
from xpo_ray.algorithms import row_of_iteration
from xpo_ray.logprobs import shared
from xpo_ray.schedule import Slice, Window
from xpo_ray.scoring import score_references
from xpo_ray.spec.algorithm import SelmAlgorithm
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.steps import StepOrder
from xpo_ray.training import Trainer

SPEC = TrainingSpec(learning_rate=1e-5)
pytestmark = pytest.mark.timeout(900)
TYPES = pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])


def window(folder: Path, base: Trainer) -> pa.Table:
    """Two prompts: a draw, which carries the bonus, and the dataset's two answers; scored under the policy as it is."""
    candidates = [
        [
            tables.candidate("reference", answer_ids(folder, "I do not know.")),
            tables.candidate("chosen", answer_ids(folder, good)),
            tables.candidate("rejected", answer_ids(folder, bad)),
        ]
        for good, bad in ANSWERS[:2]
    ]
    prompts = [prompt_ids(folder, q) for q in QUESTIONS[:2]]
    table = tables.preferences(prompts, candidates, [tables.pair(1, 2, 0), tables.pair(1, 0, 0)])
    return score_references(table, base.model, base.log_probs, dtype=base.dtype, micro_batch_tokens=2048)


def order(step: int) -> StepOrder:
    row = row_of_iteration(SelmAlgorithm(kind="selm", beta=0.1, alpha=0.01), 1)
    return StepOrder(Window(1, step, 1, (Slice(1, 0, (0, 1)),)), step, 1e-5, 1e-3, row)


def digest(model: torch.nn.Module) -> list[float]:
    return [float(p.detach().double().sum()) for p in model.parameters()]


@TYPES
def test_a_window_steps_resumes_and_is_exported(
    real_model: Path, tmp_path: Path, dtype: Literal["float32", "bfloat16"]
) -> None:
    trainer = Trainer(SPEC, str(real_model), dtype)
    assert trainer.log_probs is shared
    table = window(real_model, trainer)
    first = trainer.step(order(1), [table])
    assert first.metrics["loss/preference"] == pytest.approx(math.log(2), abs=1e-4 if dtype == "float32" else 0.02)
    trainer.save(tmp_path, {"step": 1}, optimizer=True)
    second = trainer.step(order(2), [table])
    assert second.metrics["loss/preference"] < first.metrics["loss/preference"]
    ended = digest(trainer.model)
    del trainer
    resumed = Trainer(SPEC, str(tmp_path / "model"), dtype)
    resumed.restore_state(tmp_path)
    again = resumed.step(order(2), [table])
    assert again.pairs == second.pairs
    if dtype == "float32":
        assert again.metrics == second.metrics
        assert digest(resumed.model) == ended
    del resumed
    assert "Paris" in chatted(tmp_path / "model")


def chatted(folder: Path) -> str:
    """What an exported folder answers, loaded as any user loads it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([prompt_ids(folder, "What is the capital of France?")])
    mask = torch.ones_like(ids)
    own = model.generate(
        ids, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=model.config.eos_token_id
    )
    return str(tokenizer(folder).decode(own[0, ids.shape[1] :], skip_special_tokens=True))
