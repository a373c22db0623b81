"""The shared path against the plain one, which is checked against single sequences."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.xpo_ray.logprobs.models import make
from xpo_ray.logprobs import LogProbFunction, PromptGroup, plain, shared
from xpo_ray.logprobs import head as head_module
from xpo_ray.logprobs.shared import use_packed_attention

pytestmark = pytest.mark.usefixtures("one_thread")

UNEVEN = (
    PromptGroup([3, 4, 5, 6, 7, 8, 9], ([10, 11, 1], [12, 1], [13, 14, 15, 1])),
    PromptGroup([20], ([21, 22, 23, 24, 25, 26, 27, 28, 1], [30])),
    PromptGroup([40, 41], ([1],)),
)
EVEN = tuple(
    PromptGroup([3 + i, 4, 5], tuple([10 + i + k, 11 + k, 12, 1] for k in range(2))) for i in range(4)
)  # attention needs no padding


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    made = make(request.param, window=64)
    use_packed_attention(made)
    return made


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    made = make("llama")
    use_packed_attention(made)
    return made


def relative_distances(model: PreTrainedModel, groups: Sequence[PromptGroup], other: LogProbFunction) -> list[float]:
    """‖g − g'‖ / ‖g'‖ for the gradients of each tensor, of a loss that weighs every sequence differently."""

    def gradients(log_probs: LogProbFunction) -> tuple[Tensor, ...]:
        logp_S = log_probs(model, groups).logp_S
        weights = torch.linspace(-1.0, 2.0, len(logp_S))
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.autograd.grad((logp_S * weights).sum(), parameters)

    pairs = zip(gradients(shared), gradients(other), strict=True)
    return [float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in pairs]


@pytest.mark.parametrize("groups", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_shared_and_plain_log_probs_and_entropies_are_equal(
    model: PreTrainedModel, groups: Sequence[PromptGroup]
) -> None:
    ours, theirs = shared(model, groups, entropy=True), plain(model, groups, entropy=True)
    torch.testing.assert_close(ours.logp_S, theirs.logp_S, atol=1e-4, rtol=0.0)
    torch.testing.assert_close(ours.entropy_S, theirs.entropy_S, atol=1e-5, rtol=0.0)
    assert ours.tokens_S.tolist() == theirs.tokens_S.tolist()


@pytest.mark.parametrize("groups", [UNEVEN, EVEN], ids=["uneven", "even"])
def test_gradients_of_every_tensor_are_equal(model: PreTrainedModel, groups: Sequence[PromptGroup]) -> None:
    assert max(relative_distances(model, groups, plain)) < 1e-4


def test_responses_are_blind_to_each_other_and_to_other_prompts(llama: PreTrainedModel) -> None:
    alone = shared(llama, [PromptGroup(UNEVEN[0].prompt_ids, (UNEVEN[0].responses[1],))]).logp_S
    beside = shared(llama, UNEVEN).logp_S[1:2]
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=0.0)


def test_a_response_that_stands_twice_is_computed_once_and_given_twice(llama: PreTrainedModel) -> None:
    twice = PromptGroup([3, 4, 5], ([10, 11, 1], [12, 1], [10, 11, 1]))
    out = shared(llama, [twice])
    assert out.logp_S[0] == out.logp_S[2]
    assert out.tokens_S.tolist() == [3, 2, 3]
    assert shared.tokens([twice]) == 3 + 3 + 2
    torch.testing.assert_close(out.logp_S, plain(llama, [twice]).logp_S, atol=1e-5, rtol=0.0)
    assert max(relative_distances(llama, [twice], plain)) < 1e-4


def test_logits_made_in_chunks_change_neither_values_nor_gradients(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = shared(llama, UNEVEN, entropy=True)
    monkeypatch.setattr(head_module, "CHUNK_LOGITS", 3 * 53)  # three rows of logits at a time
    chunked = shared(llama, UNEVEN, entropy=True)
    torch.testing.assert_close(chunked.logp_S, at_once.logp_S, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(chunked.entropy_S, at_once.entropy_S, atol=1e-5, rtol=0.0)
    assert max(relative_distances(llama, UNEVEN, plain)) < 1e-4


def test_sequences_longer_than_the_sliding_window_take_the_plain_path() -> None:
    narrow = make("mistral", window=4)
    use_packed_attention(narrow)
    torch.testing.assert_close(shared(narrow, UNEVEN).logp_S, plain(narrow, UNEVEN).logp_S, atol=0.0, rtol=0.0)
    wide = make("mistral", window=64)
    use_packed_attention(wide)
    assert (shared(narrow, UNEVEN).logp_S - shared(wide, UNEVEN).logp_S).abs().max() > 0.01


def test_a_model_draws_as_before_with_the_packed_attention() -> None:
    before, after = make("llama"), make("llama")
    use_packed_attention(after)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    with torch.no_grad():
        assert torch.equal(
            before(input_ids=ids, attention_mask=mask).logits, after(input_ids=ids, attention_mask=mask).logits
        )


def test_an_empty_response_has_log_prob_zero(llama: PreTrainedModel) -> None:
    out = shared(llama, [PromptGroup([3, 4], ([], [5, 1]))])
    assert out.logp_S[0] == 0.0
    torch.testing.assert_close(out.logp_S[1:], shared(llama, [PromptGroup([3, 4], ([5, 1],))]).logp_S)


def test_log_probs_are_the_same_bits_again(model: PreTrainedModel) -> None:
    assert torch.equal(shared(model, UNEVEN).logp_S, shared(model, UNEVEN).logp_S)
