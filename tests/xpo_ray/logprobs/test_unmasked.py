"""Log-probs of sequences that are padded at their ends alone, against each sequence by itself."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.xpo_ray.logprobs.models import make
from xpo_ray.adapters import Adapter
from xpo_ray.logprobs import LogProbFunction, PromptGroup, choose
from xpo_ray.logprobs.apart import OneByOne
from xpo_ray.logprobs.unmasked import separate, unmasked
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = [
    PromptGroup([3, 4, 5, 6, 7, 8, 9], ([10, 11, 1], [12, 1])),
    PromptGroup([20], ([21, 22, 23, 24, 25, 26, 27, 28, 1], [30])),
]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make("llama")


def slow(model: nn.Module, prompt: list[int], response: list[int]) -> tuple[Tensor, float]:
    """Summed log-prob with its graph, and mean entropy."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    logp = logits.log_softmax(-1)
    entropies = -(logp.exp() * logp).sum(-1)
    return logp.gather(-1, torch.tensor(response)[:, None]).sum(), float(entropies.mean().detach())


@pytest.mark.parametrize("path", [unmasked, OneByOne(unmasked)])
def test_log_probs_entropies_and_lengths_are_those_of_single_sequences(
    model: PreTrainedModel, path: LogProbFunction
) -> None:
    out = path(model, GROUPS, entropy=True)
    expected = [slow(model, list(g.prompt_ids), list(r)) for g in GROUPS for r in g.responses]
    assert out.logp_S.tolist() == pytest.approx([float(e.detach()) for e, _ in expected], abs=1e-4)
    assert out.entropy_S is not None
    assert out.entropy_S.tolist() == pytest.approx([h for _, h in expected], abs=1e-5)
    assert out.tokens_S.tolist() == [3, 2, 9, 1]
    assert path(model, GROUPS).entropy_S is None


def test_gradients_are_those_of_single_sequences(model: PreTrainedModel) -> None:
    parameters = list(model.parameters())
    made = torch.autograd.grad(unmasked(model, GROUPS).logp_S.sum(), parameters)
    total = torch.stack([slow(model, list(g.prompt_ids), list(r))[0] for g in GROUPS for r in g.responses]).sum()
    for one, other in zip(made, torch.autograd.grad(total, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_an_empty_response_has_log_prob_zero(model: PreTrainedModel) -> None:
    out = unmasked(model, [PromptGroup([3, 4], ((), (5,)))])
    assert float(out.logp_S[0].detach()) == 0.0
    assert out.tokens_S.tolist() == [0, 1]


def test_what_a_micro_batch_is_bounded_by() -> None:
    assert unmasked.tokens(GROUPS) == 4 * 10
    assert OneByOne(unmasked).tokens(GROUPS) == 10 + 9 + 10 + 2


class Neighbourly(nn.Module):
    """A model whose logits hang on how long the longest sequence beside them is."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def forward(self, input_ids: Tensor, use_cache: bool) -> object:
        out = self.model(input_ids=input_ids, use_cache=use_cache)
        out.logits = out.logits * math.log(input_ids.shape[1])
        return out


def test_a_model_that_reads_its_neighbours_gets_none(model: PreTrainedModel) -> None:
    assert separate(model, 1e-3) is unmasked
    assert separate(Neighbourly(model), 1e-3) == OneByOne(unmasked)


def test_logits_of_an_adapted_model_are_kept_for_the_response_alone(tmp_path: Path) -> None:
    make("llama").save_pretrained(tmp_path)
    adapted = Adapter(ModelSpec(path=str(tmp_path)), LoraSpec(rank=2, alpha=4.0)).model
    kept = []
    adapted.get_output_embeddings().register_forward_hook(lambda _module, args, _out: kept.append(args[0].shape[1]))
    unmasked(adapted, GROUPS[:1])
    assert kept == [10 - 6]


def test_sixteen_bits_alone_do_not_part_neighbours() -> None:
    half = make("llama").to(torch.bfloat16)
    assert choose(with_a_state(half), "bfloat16").log_probs is unmasked


def with_a_state(model: PreTrainedModel) -> PreTrainedModel:
    """It says of itself that its layers keep states, so that it is not packed."""
    model._is_stateful = True
    return model
