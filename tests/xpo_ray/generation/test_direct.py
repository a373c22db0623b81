"""The step without transformers' calls around it, beside the model's own forward pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Ministral3Config,
    Ministral3ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tests.xpo_ray.architectures import GPT2_SIZES, SIZES
from xpo_ray import linear, probing
from xpo_ray.adapters import Adapter
from xpo_ray.generation import direct
from xpo_ray.generation.columns import column_cache
from xpo_ray.generation.direct import direct_step
from xpo_ray.generation.stepper import Stepper
from xpo_ray.linear import through_onednn
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama with biases": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "llama with stretched positions": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4})
    ),
    "llama without groups": lambda: LlamaForCausalLM(LlamaConfig(**SIZES | {"num_key_value_heads": 4})),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=64)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
}
BEGINS = torch.tensor([0, 2, 5])
IDS = torch.arange(3 * 12).view(3, 12) % 37 + 1


def make(kind: str) -> PreTrainedModel:
    """The same weights each time; norms and biases are not what they begin as."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model: PreTrainedModel = KINDS[kind]().eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def logits(stepper: Stepper, steps: int = 6) -> Tensor:
    """Logits [steps, 3, V] behind rows that begin at columns 0, 2 and 5, the last `steps` tokens one by one."""
    columns = torch.arange(IDS.shape[1])
    sees = columns >= BEGINS[:, None]
    read = IDS.shape[1] - steps
    cache = column_cache(2, steps)
    positions = (columns - BEGINS[:, None]).clamp(min=0)
    stepper.model(
        input_ids=IDS[:, :read],
        attention_mask=sees[:, :read].long(),
        position_ids=positions[:, :read],
        past_key_values=cache,
    )
    made = [stepper.next_logits(IDS[:, n], positions[:, n], cache, sees[:, : n + 1]) for n in range(read, IDS.shape[1])]
    return torch.stack(made)


def own(stepper: Stepper) -> Stepper:
    """The same model, called as it is."""
    return replace(stepper, direct=None)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_logits_are_those_of_the_models_own_pass(kind: str) -> None:
    stepper = Stepper.of(make(kind))
    assert stepper.direct is not None
    torch.testing.assert_close(logits(stepper), logits(own(stepper)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_in_half_precision_they_differ_by_rounding(kind: str) -> None:
    stepper = Stepper.of(make(kind).to(torch.bfloat16))
    assert stepper.direct is not None
    theirs = logits(own(stepper))
    assert (logits(stepper) - theirs).abs().max() < 0.03 * theirs.abs().max()


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")
@pytest.mark.parametrize("kind", ["llama", "llama with biases", "qwen3"])
@torch.no_grad()
def test_packed_weights_follow_the_models_weights(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "faster_here", lambda: True)
    model = make(kind)
    through_onednn(model, frozen=True)
    stepper = Stepper.of(model)
    before = logits(stepper)
    for parameter in model.parameters():
        parameter.mul_(1.25)
    after = logits(stepper)
    assert (after - before).abs().max() > 0.1
    torch.testing.assert_close(after, logits(own(stepper)), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_adapter_is_seen_while_it_is_on(model_folder: Path) -> None:
    adapter = Adapter(ModelSpec(path=str(model_folder)), LoraSpec(rank=2))
    stepper = Stepper.of(adapter.model)
    assert stepper.direct is not None
    for parameter in adapter.parameters.values():
        parameter.add_(0.05)
    with_it = logits(stepper)
    torch.testing.assert_close(with_it, logits(own(stepper)), atol=1e-5, rtol=1e-5)
    with adapter.off():
        without = logits(stepper)
        torch.testing.assert_close(without, logits(own(stepper)), atol=1e-5, rtol=1e-5)
    assert (with_it - without).abs().max() > 1e-3


OTHERS: dict[str, Any] = {
    "other modules": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
    "norms of 1 + weight": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
    "scaled residuals": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, residual_multiplier=0.5)),
    "scaled logits": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=2.0)),
    "scaled embeddings": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, embedding_multiplier=3.0)),
    "layers without rotation": lambda: SmolLM3ForCausalLM(SmolLM3Config(**SIZES)),
    "queries that grow with their position": lambda: Ministral3ForCausalLM(Ministral3Config(**SIZES)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_that_computes_otherwise_is_left_to_itself(kind: str, dtype: torch.dtype) -> None:
    assert direct_step(OTHERS[kind]().eval().to(dtype)) is None


@pytest.mark.parametrize("kind", [k for k in OTHERS if k.startswith(("scaled", "norms"))])
def test_the_probe_alone_tells_them_too(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "KINDS", (*direct.KINDS, "gemma", "granite"))
    for dtype in (torch.float32, torch.bfloat16):
        assert direct_step(OTHERS[kind]().eval().to(dtype)) is None
    monkeypatch.setattr(probing, "LEAST", 1e9)
    assert (direct_step(OTHERS[kind]().eval()) is None) == (
        kind == "norms of 1 + weight"
    )  # its norms have another name


@torch.no_grad()
def test_the_probe_looks_at_far_positions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "KINDS", (*direct.KINDS, "ministral3"))
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64}
    rope |= {"llama_4_scaling_beta": 0.5, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    config = Ministral3Config(**SIZES, rope_parameters=rope)
    assert direct_step(Ministral3ForCausalLM(config).eval()) is None
    config.max_position_embeddings = 5
    assert direct_step(Ministral3ForCausalLM(config).eval()) is not None  # near the beginning nothing grows


def test_a_model_that_somebody_listens_to_is_called_as_it_is() -> None:
    model = make("llama")
    heard: list[int] = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: heard.append(1))
    assert direct_step(model) is None
    handle.remove()
    assert direct_step(model) is not None


@torch.no_grad()
def test_beyond_its_window_a_model_is_called_as_it_is() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)).eval()
    stepper = Stepper.of(model)
    assert stepper.direct is not None
    blind = replace(stepper, window=None)
    theirs = logits(own(stepper))
    torch.testing.assert_close(logits(stepper), theirs, atol=1e-5, rtol=1e-5)
    assert (logits(blind) - theirs).abs().max() > 1e-3
