"""Which models take the shared path, and what is said of the others."""

from typing import Literal

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM

from tests.xpo_ray.logprobs.models import make
from xpo_ray.logprobs import Choice, choose, plain, shared
from xpo_ray.logprobs.apart import OneByOne
from xpo_ray.logprobs.probe_text import probe_groups
from xpo_ray.logprobs.unmasked import unmasked

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_models_whose_attention_is_a_function_take_the_shared_path(kind: str) -> None:
    choice = choose(make(kind, window=64))
    assert choice.log_probs is shared
    assert choice.reason is None


def test_a_model_whose_attention_cannot_be_packed_keeps_its_own() -> None:
    model = make("qwen2")
    before = model.config._attn_implementation
    attention = model.model.layers[0].self_attn
    passed = attention.forward
    attention.forward = lambda *args, **kwargs: passed(*args, s_aux=torch.zeros(4), **kwargs)
    choice = choose(model)
    assert choice.log_probs is plain
    assert "Qwen2ForCausalLM cannot be packed: NotImplementedError" in str(choice.reason)
    assert model.config._attn_implementation == before


def test_a_head_that_scales_its_logits_is_found_by_the_probe() -> None:
    model = make("llama")
    head = model.lm_head
    model.lm_head.forward = lambda x: type(head).forward(head, x) * (2.0 if x.dim() == 3 else 1.0)
    choice = choose(model)
    assert choice.log_probs is plain
    assert "gives other log-probs when packed" in str(choice.reason)


def test_a_model_with_attention_of_its_own_reads_each_sequence_by_itself() -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=53, hidden_size=32, n_layer=1, n_head=4)).eval()
    choice = choose(model)
    assert choice.log_probs is unmasked
    assert "BloomForCausalLM does not take attention functions of others" in str(choice.reason)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rounding_of_improbable_tokens_keeps_no_model_from_the_shared_path(
    dtype: Literal["float32", "bfloat16"],
) -> None:
    """Large states at the first token, as trained models have them, round by whole nats in bfloat16."""
    model = make("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(40.0)
        model.lm_head.weight.mul_(8.0)
    assert choose(model, dtype) == Choice(shared)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_positions_that_are_wrong_are_found_in_both_types(dtype: Literal["float32", "bfloat16"]) -> None:
    model = make("llama")
    rotary = model.model.rotary_emb
    passed = rotary.forward
    longer_than_a_row = 30
    rotary.forward = lambda x, position_ids: passed(x, position_ids * (1 + (position_ids.shape[1] > longer_than_a_row)))
    choice = choose(model, dtype)
    assert choice.log_probs is plain
    assert "gives other log-probs when packed" in str(choice.reason)


def test_a_model_whose_rows_feel_each_other_computes_them_one_by_one() -> None:
    class Feeling(nn.Module):
        """Adds to every row what its batch is on the mean."""

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden + hidden.mean((0, 1), keepdim=True)

    model = make("llama")
    model.model.norm = Feeling()
    choice = choose(model)
    assert isinstance(choice.log_probs, OneByOne)
    assert "gives a sequence other log-probs beside others" in str(choice.reason)


def test_the_probe_is_likely_text_of_several_lengths_and_around_borders() -> None:
    model = make("llama")
    groups = probe_groups(model)
    assert [len(g.prompt_ids) for g in groups] == [2, 4, 6, 8]
    greedy = model.generate(torch.tensor([groups[0].prompt_ids]), max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert list(groups[0].responses[0]) == greedy[0, 2:].tolist()
    narrow = probe_groups(make("mistral", window=16))[-1]
    assert [len(narrow.prompt_ids) + len(r) for r in narrow.responses] == [15, 16, 17, 22]
