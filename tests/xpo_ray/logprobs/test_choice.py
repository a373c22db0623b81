"""Which models take the shared path, and what is said of the others."""

import pytest
from transformers import BloomConfig, BloomForCausalLM

from tests.xpo_ray.logprobs.models import make
from xpo_ray.logprobs import choose, plain, shared
from xpo_ray.logprobs.unmasked import Unmasked

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gpt2"])
def test_models_whose_attention_is_a_function_take_the_shared_path(kind: str) -> None:
    choice = choose(make(kind, window=64))
    assert choice.log_probs is shared
    assert choice.reason is None


def test_soft_caps_are_found_and_the_model_keeps_its_own_attention() -> None:
    model = make("gemma2")
    before = model.config._attn_implementation
    choice = choose(model)
    assert choice.log_probs is plain
    assert "Gemma2ForCausalLM cannot be packed" in str(choice.reason)
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
    assert choice.log_probs == Unmasked()
    assert "BloomForCausalLM does not take attention functions of others" in str(choice.reason)
