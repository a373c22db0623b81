"""A model whose attention SDPA would cut short gets one that computes all of it, wherever it is loaded."""

from pathlib import Path

import pytest
import torch
from transformers import Gemma2ForSequenceClassification, PreTrainedModel, VaultGemmaConfig, VaultGemmaForCausalLM

from tests.xpo_ray.logprobs.models import SIZES, make
from xpo_ray.checkpoints import load_model
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.logprobs import PromptGroup, choose, plain, shared
from xpo_ray.logprobs.attention_kinds import whole_attention

pytestmark = pytest.mark.usefixtures("one_thread")
GROUPS = [PromptGroup([3, 4, 5, 6, 7], ((8, 9, 10, 11), (12, 13))), PromptGroup([20], ((21, 22, 23),))]


def strong(kind: str) -> PreTrainedModel:
    """Attention whose scores are far beyond the cap."""
    if kind == "gemma2":
        return make("gemma2")
    torch.manual_seed(0)
    caps = {"attn_logit_softcapping": 2.0, "head_dim": 8, "sliding_window": 64}
    return VaultGemmaForCausalLM(VaultGemmaConfig(**SIZES, **caps)).eval()


def summed(model: PreTrainedModel, groups: list[PromptGroup]) -> torch.Tensor:
    """Log-probs by the model's own forward pass, one sequence at a time."""
    values = []
    for group in groups:
        for response in group.responses:
            ids = [*group.prompt_ids, *response]
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            places = range(len(group.prompt_ids) - 1, len(ids) - 1)
            values.append(sum(logits[i, ids[i + 1]] for i in places))
    return torch.stack([torch.as_tensor(v) for v in values])


@pytest.mark.parametrize("kind", ["gemma2", "vaultgemma"])
@torch.no_grad()
def test_log_probs_of_a_loaded_model_with_soft_caps_are_those_of_eager_attention(kind: str, tmp_path: Path) -> None:
    strong(kind).save_pretrained(tmp_path)
    loaded = load_model(tmp_path, "float32")
    eager = strong(kind)
    eager.set_attn_implementation("eager")
    sdpa = strong(kind)
    sdpa.set_attn_implementation("sdpa")
    expected = summed(eager, GROUPS)
    assert (summed(sdpa, GROUPS) - expected).abs().max() > 0.01  # the cap is felt
    torch.testing.assert_close(summed(loaded, GROUPS), expected, atol=1e-4, rtol=0.0)
    assert choose(loaded).log_probs is shared
    for path in (plain, shared):
        torch.testing.assert_close(path(loaded, GROUPS).logp_S, expected, atol=1e-4, rtol=0.0)


def test_draws_of_a_model_with_soft_caps_are_those_of_eager_attention(tmp_path: Path) -> None:
    strong("gemma2").save_pretrained(tmp_path)
    eager = strong("gemma2")
    eager.set_attn_implementation("eager")
    prompts = [[3, 4, 5, 6, 7], [20, 21]]
    drawn = TransformersEngine(load_model(tmp_path, "float32"), [1]).draw(
        prompts, [0, 1], Sampling(temperature=0.0, top_p=1.0, top_k=None, max_new_tokens=8)
    )
    for prompt, one in zip(prompts, drawn, strict=True):
        ids = torch.tensor([prompt])
        own = eager.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        assert list(one.ids) == own[0, len(prompt) :].tolist()


@torch.no_grad()
def test_gradients_pass_through_the_cap() -> None:
    eager, ours = strong("gemma2"), whole_attention(strong("gemma2"))
    eager.set_attn_implementation("eager")
    assert choose(ours).log_probs is shared
    with torch.enable_grad():
        summed(eager, GROUPS).sum().backward()
        shared(ours, GROUPS).logp_S.sum().backward()
    for a, b in zip(ours.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_a_reward_model_keeps_its_caps_too() -> None:
    torch.manual_seed(0)
    config = make("gemma2").config
    config.num_labels = 1
    model = Gemma2ForSequenceClassification(config).eval()
    ids = torch.tensor([[3, 4, 5, 6, 7, 8, 9]])
    model.set_attn_implementation("eager")
    expected = model(input_ids=ids).logits
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(whole_attention(model)(input_ids=ids).logits, expected, atol=1e-5, rtol=0.0)
    assert model.config._attn_implementation != "sdpa"


def test_a_model_without_caps_keeps_the_attention_that_transformers_chose() -> None:
    model = make("llama")
    before = model.config._attn_implementation
    assert whole_attention(model).config._attn_implementation == before
