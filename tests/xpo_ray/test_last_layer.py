"""The last layer on the positions that are read, beside the whole layer."""

from collections.abc import Callable
from copy import deepcopy
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
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.xpo_ray import architectures
from xpo_ray.adapters import Adapter
from xpo_ray.last_layer import leave_out_unread, leaves_out_unread
from xpo_ray.recomputation import recompute_layers
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = architectures.SIZES | {"num_hidden_layers": 3}
KINDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=4)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SIZES)),
    "classifier": lambda: LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=1)),
}
IDS = torch.arange(2 * 9).view(2, 9) % 37 + 1
READ_R = torch.tensor([8, 0, 5])


def make(kind: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return KINDS[kind]().eval()


def states(model: Any, read_R: Tensor | None = None) -> Tensor:
    """Last hidden states [2, positions, hidden]."""
    wanted = {} if read_R is None else {"read_R": read_R}
    hidden: Tensor = model.base_model(input_ids=IDS, use_cache=False, **wanted).last_hidden_state
    return hidden


@pytest.mark.parametrize("kind", KINDS)
def test_states_that_are_read_and_their_gradients_are_those_of_the_whole_layer(kind: str) -> None:
    whole, read = make(kind), make(kind)
    assert leave_out_unread(read)
    expected, got = states(whole)[:, READ_R], states(read, READ_R)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for hidden in (expected, got):
        hidden.square().sum().backward()
    for (name, one), other in zip(whole.named_parameters(), read.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(other.grad, one.grad, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_padding_is_not_looked_at() -> None:
    model = make("llama")
    leave_out_unread(model)
    mask = torch.ones_like(IDS)
    mask[1, :4] = 0
    asked = {"input_ids": IDS, "attention_mask": mask, "use_cache": False}
    last_R = torch.tensor([8])
    got = model.base_model(**asked, read_R=last_R).last_hidden_state
    torch.testing.assert_close(got, model.base_model(**asked).last_hidden_state[:, 8:], atol=1e-5, rtol=1e-5)
    assert (got[1] - states(model, last_R)[1]).abs().max() > 1e-3  # the mask makes a difference


@torch.no_grad()
def test_in_half_precision_too() -> None:
    model = make("llama").to(torch.bfloat16)
    whole = states(model)[:, READ_R]
    assert leave_out_unread(model)
    assert (states(model, READ_R) - whole).abs().max() < 0.03 * whole.abs().max()


def test_an_adapter_in_the_last_layer_is_trained(model_folder: Path) -> None:
    gradients = []
    for leaves_out in (False, True):
        adapter = Adapter(ModelSpec(path=str(model_folder)), LoraSpec(rank=2))
        with torch.no_grad():
            for parameter in adapter.parameters.values():
                parameter.add_(0.05)
        assert not leaves_out or leave_out_unread(adapter.model)
        hidden = states(adapter.model, READ_R) if leaves_out else states(adapter.model)[:, READ_R]
        weight = torch.arange(
            float(hidden.shape[-1])
        ).cos()  # the norm behind the last layer makes a sum of squares constant
        (hidden * weight).sum().backward()
        gradients.append([p.grad for p in adapter.parameters.values()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


def test_the_others_are_left_out_of_the_feed_forward_part() -> None:
    model, seen = make("llama"), list[int]()
    leave_out_unread(model)
    model.model.layers[-1].mlp.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[1]))
    states(model)
    states(model, READ_R)
    assert seen == [9, 3]


def test_who_does_not_ask_gets_all_to_the_bit() -> None:
    model = make("llama")
    before = states(model)
    assert leave_out_unread(model)
    assert leave_out_unread(model)
    assert leaves_out_unread(model)
    assert torch.equal(states(model), before)


@torch.no_grad()
def test_a_copy_of_the_model_computes_with_its_own_weights() -> None:
    model = make("llama")
    leave_out_unread(model)
    copied = deepcopy(model)
    before = states(copied, READ_R)
    for parameter in model.parameters():
        parameter.mul_(2.0)
    assert torch.equal(states(copied, READ_R), before)


def test_layers_that_are_computed_again_give_the_same_gradients() -> None:
    once, again = make("llama"), make("llama")
    for model in (once, again):
        leave_out_unread(model)
    recompute_layers(again)
    for model in (once, again):
        states(model, READ_R).square().sum().backward()
    for one, other in zip(once.parameters(), again.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "make_model",
    [
        lambda: GPT2LMHeadModel(GPT2Config(**architectures.GPT2_SIZES)),
        lambda: GraniteForCausalLM(GraniteConfig(**SIZES, residual_multiplier=0.5)),
    ],
    ids=["other modules", "other sums"],
)
def test_a_model_that_computes_otherwise_stays_what_it_was(make_model: Callable[[], Any], dtype: torch.dtype) -> None:
    model = make_model().eval().to(dtype)
    before = states(model)
    assert not leave_out_unread(model)
    assert not leaves_out_unread(model)
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(states(model), before)
