"""vLLM serves the real model: its canary is the trainer's, before and after a hand-over, in both types."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.real_model.questions import QUESTIONS, groups, prompt_ids, tokenizer
from tests.xpo_ray.generation.served import draw, load, logp, served, take
from xpo_ray.checkpoints import load_model, save_model, weights_of
from xpo_ray.decisions import canary_agrees
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.logprobs import choose, shared
from xpo_ray.training import canary_logp

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_canary_is_the_trainers_before_and_after_hand_overs(
    real_model: Path, tmp_path: Path, dtype: Literal["float32", "bfloat16"]
) -> None:
    model = load_model(real_model, "float32")
    assert choose(model, dtype).log_probs is shared
    ids = prompt_ids(real_model, QUESTIONS[0])
    end = tokenizer(real_model).eos_token_id
    with served(str(real_model), [end], dtype=dtype, kv_cache_bytes=2**29) as engine:
        assert_agree(engine.ask(logp, ids), canary(model, ids, dtype), dtype)
        (drawn,) = engine.ask(draw, [prompt_ids(real_model, QUESTIONS[1])], [0], Sampling(0.0, 1.0, None, 12))
        if dtype == "float32":  # in bfloat16 rounding decides between likely answers
            assert "Paris" in tokenizer(real_model).decode(drawn.ids)
        before = canary(model, ids, dtype)
        moved(model, real_model)
        engine.ask(take, weights_of(model))
        assert_agree(engine.ask(logp, ids), canary(model, ids, dtype), dtype)
        assert abs(canary(model, ids, dtype) - before) > 0.2  # the old weights would be noticed in either type
        save_model(load_model(real_model, "float32"), real_model, tmp_path / "back")
        engine.ask(load, str(tmp_path / "back"))
        assert_agree(engine.ask(logp, ids), before, dtype)


@torch.no_grad()
def canary(model: torch.nn.Module, ids: list[int], dtype: Literal["float32", "bfloat16"]) -> float:
    """As the trainer gives it."""
    return canary_logp(shared, model, ids, dtype)


def moved(model: torch.nn.Module, folder: Path) -> None:
    """A step that makes answers less likely, and the canary's text another one."""
    shared(model, groups(folder)).logp_S.sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad, alpha=2e-4)
            parameter.grad = None


def assert_agree(engine: float, trainer: float, dtype: Literal["float32", "bfloat16"]) -> None:
    print(f"FIGURES {dtype}: canary of vLLM {engine:.6f}, of the trainer {trainer:.6f} nats per token")
    assert canary_agrees(engine, trainer, dtype)
