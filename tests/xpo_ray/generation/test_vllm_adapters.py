"""Adapters in the vLLM engine against PEFT's, in float32: by folder and as tensors, in turn, the base beside them."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.tiny import tiny_model_folder
from tests.xpo_ray.generation.served import Served, adapt, draw_both, logp, served
from xpo_ray.adapters import Adapter, adapter_folder
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
]
GREEDY = Sampling(0.0, 1.0, None, 24)
NEAR = 1e-4
"""Two logits nearer than this may change places by rounding."""
PROMPTS = [list(range(first, first + length)) for first in (5, 40, 77, 130) for length in (3, 8, 20, 33)]
LORA = LoraSpec(rank=4, alpha=16.0, rslora=True)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """A Llama with an adapter that each test fills."""
    path = tiny_model_folder(tmp_path_factory.mktemp("adapted") / "base", hidden=128)
    return Adapter(ModelSpec(path=str(path)), LORA)


@pytest.fixture(scope="module")
def engine(adapter: Adapter) -> Iterator[Served]:
    with served(str(adapter.model.config._name_or_path), [1], adapter_rank=LORA.rank) as process:
        yield process


def filled(adapter: Adapter, seed: int) -> dict[str, Tensor]:
    """Tensors that change most tokens, put into the adapter."""
    noise = torch.Generator().manual_seed(seed)
    weights = {name: 0.2 * torch.randn(p.shape, generator=noise) for name, p in adapter.parameters.items()}
    adapter.put(weights)
    return weights


@torch.no_grad()
def wrong(adapter: Adapter, drawn: list[Drawn], *, on: bool) -> int:
    """Tokens that are not PEFT's though its best logit leads by more than NEAR; most were looked at."""
    found = looked_at = 0
    for prompt, one in zip(PROMPTS, drawn, strict=True):
        ids = torch.tensor([[*prompt, *one.ids]])
        with nullcontext() if on else adapter.off():
            logits_TV = adapter.model(ids).logits[0, len(prompt) - 1 : -1]
        best_T2 = logits_TV.topk(2).values
        clear_T = best_T2[:, 0] - best_T2[:, 1] > NEAR
        found += int((clear_T & (logits_TV.argmax(-1) != ids[0, len(prompt) :])).sum())
        looked_at += int(clear_T.sum())
    assert looked_at > 0.9 * sum(len(one.ids) for one in drawn)
    return found


def assert_served(engine: Served, adapter: Adapter) -> None:
    """The adapter's tokens and log-probs, and those of the base, in one batch."""
    adapted, plain = engine.ask(draw_both, PROMPTS, range(len(PROMPTS)), GREEDY)
    assert wrong(adapter, adapted, on=True) == 0
    assert wrong(adapter, plain, on=False) == 0
    assert wrong(adapter, plain, on=True) > 50
    ids = torch.tensor([PROMPTS[-1]])
    with torch.no_grad():
        logps_TV = torch.log_softmax(adapter.model(ids).logits[0, :-1], -1)
    expected = logps_TV.gather(-1, ids[0, 1:, None]).mean().item()
    assert engine.ask(logp, PROMPTS[-1]) == pytest.approx(expected, abs=1e-5)


def test_each_adapter_that_is_handed_over_draws_as_with_peft_and_the_base_as_before(
    engine: Served, adapter: Adapter, tmp_path: Path
) -> None:
    filled(adapter, 1)
    adapter.save(tmp_path / "first")
    engine.ask(adapt, str(tmp_path / "first"))
    assert_served(engine, adapter)
    with adapter_folder(filled(adapter, 2), LORA) as folder:
        engine.ask(adapt, str(folder))
    assert not folder.exists()
    assert_served(engine, adapter)
    engine.ask(adapt, None)
    adapted, plain = engine.ask(draw_both, PROMPTS, range(len(PROMPTS)), GREEDY)
    assert adapted == plain
    assert wrong(adapter, adapted, on=False) == 0
    refused(engine, adapter, tmp_path / "large")


def refused(engine: Served, adapter: Adapter, folder: Path) -> None:
    """An adapter that does not fit is refused, and the engine goes on without one."""
    large = LoraSpec(rank=16, alpha=16.0)
    Adapter(ModelSpec(path=adapter.model.config._name_or_path), large).save(folder)
    with pytest.raises(ValueError, match="LoRA rank 16 is greater than max_lora_rank 8"):
        engine.ask(adapt, str(folder))
    adapted, plain = engine.ask(draw_both, PROMPTS[:2], [1, 2], GREEDY)
    assert adapted == plain
