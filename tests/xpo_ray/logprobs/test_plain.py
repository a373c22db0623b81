"""Log-probs of responses, against one unpadded sequence at a time, token by token."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.xpo_ray.logprobs.models import make
from xpo_ray.logprobs import PromptGroup, micro_batches, plain, precision

pytestmark = pytest.mark.usefixtures("one_thread")

GROUPS = (
    PromptGroup([3, 4, 5, 6, 7, 8, 9], ([10, 11, 1], [12, 1])),
    PromptGroup([20], ([21, 22, 23, 24, 25, 26, 27, 28, 1], [30])),
    PromptGroup([40, 41], ([1],)),
)


@pytest.fixture(scope="module", params=["llama", "qwen2", "mistral", "gpt2"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return make(request.param)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return make("llama")


def slow(model: PreTrainedModel, prompt: Sequence[int], response: Sequence[int]) -> tuple[Tensor, float]:
    """Summed log-prob with its graph, and mean entropy."""
    logits = model(input_ids=torch.tensor([[*prompt, *response]])).logits[0].float()
    logp, entropy = torch.zeros(()), 0.0
    for i, token in enumerate(response):
        probs = logits[len(prompt) + i - 1].softmax(-1)
        logp = logp + probs[token].log()
        entropy -= sum(p * math.log(p) for p in probs.tolist() if p > 0)
    return logp, entropy / len(response)


def sequences(groups: Sequence[PromptGroup]) -> list[tuple[Sequence[int], Sequence[int]]]:
    return [(g.prompt_ids, r) for g in groups for r in g.responses]


def gradients(model: PreTrainedModel, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_log_probs_entropies_and_counts_are_those_of_single_sequences(model: PreTrainedModel) -> None:
    out = plain(model, GROUPS, entropy=True)
    expected = [slow(model, p, r) for p, r in sequences(GROUPS)]
    torch.testing.assert_close(out.logp_S, torch.stack([e[0] for e in expected]), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(out.entropy_S, torch.tensor([e[1] for e in expected]), atol=2e-5, rtol=1e-5)
    assert out.tokens_S.tolist() == [3, 2, 9, 1, 1]


def test_gradients_are_those_of_single_sequences_and_finite_in_spite_of_padding(model: PreTrainedModel) -> None:
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.25])
    mine = gradients(model, (plain(model, GROUPS, entropy=True).logp_S * weights).sum())
    slowly = torch.stack([slow(model, p, r)[0] for p, r in sequences(GROUPS)])
    for ours, theirs in zip(mine, gradients(model, (slowly * weights).sum()), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_the_sum_runs_through_the_first_eos_and_takes_the_eos_in(llama: PreTrainedModel) -> None:
    with_eos = PromptGroup([3, 4], ([10, 11, 1],))
    without = PromptGroup([3, 4], ([10, 11],))
    last = plain(llama, [PromptGroup([3, 4, 10, 11], ([1],))]).logp_S
    difference = plain(llama, [with_eos]).logp_S - plain(llama, [without]).logp_S
    torch.testing.assert_close(difference, last, atol=1e-5, rtol=1e-5)


def test_log_probs_are_sums_not_means_and_in_nats(llama: PreTrainedModel) -> None:
    head = llama.lm_head.weight
    with torch.no_grad():
        kept = head.clone()
        head.zero_()
        out = plain(llama, GROUPS, entropy=True)
        head.copy_(kept)
    torch.testing.assert_close(out.logp_S, -math.log(53) * torch.tensor([3.0, 2.0, 9.0, 1.0, 1.0]))
    torch.testing.assert_close(out.entropy_S, torch.full((5,), math.log(53)))


def test_a_longer_neighbour_changes_nothing_but_rounding(model: PreTrainedModel) -> None:
    alone = plain(model, GROUPS[2:]).logp_S
    beside = plain(model, [*GROUPS, PromptGroup(list(range(2, 42)), (list(range(2, 32)),))]).logp_S
    torch.testing.assert_close(beside[4:5], alone, atol=2e-5, rtol=1e-5)


def test_the_padding_id_does_not_matter_even_where_it_is_drawn(llama: PreTrainedModel) -> None:
    group = PromptGroup([0, 3], ([0, 0, 1], [0]))
    out = plain(llama, [group, GROUPS[0]])
    expected = [slow(llama, group.prompt_ids, r)[0] for r in group.responses]
    torch.testing.assert_close(out.logp_S[:2], torch.stack(expected), atol=2e-5, rtol=1e-5)


def test_entropy_carries_no_gradient(llama: PreTrainedModel) -> None:
    out = plain(llama, GROUPS, entropy=True)
    assert out.logp_S.requires_grad
    assert not out.entropy_S.requires_grad


def test_bfloat16_computes_in_that_precision_and_sums_in_float32(llama: PreTrainedModel) -> None:
    full = plain(llama, GROUPS, entropy=True).logp_S
    with precision("bfloat16", torch.device("cpu")):
        rough = plain(llama, GROUPS, entropy=True).logp_S
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, full)
    torch.testing.assert_close(rough, full, atol=0.5, rtol=0.05)
    with precision("float32", torch.device("cpu")):
        assert torch.equal(plain(llama, GROUPS, entropy=True).logp_S, full)


def padded(groups: Sequence[PromptGroup]) -> int:
    """Cells of the matrix that `plain` builds."""
    flat = sequences(groups)
    return len(flat) * (max(len(p) for p, _ in flat) + max(len(r) for _, r in flat))


@pytest.mark.parametrize("limit", [1, 20, 60, 100, 10_000])
def test_micro_batches_hold_every_group_once_and_keep_to_the_limit(limit: int) -> None:
    groups = [
        PromptGroup([2] * (1 + 7 * i % 13), tuple([3] * (1 + 5 * (i + k) % 17) for k in range(1 + i % 3)))
        for i in range(40)
    ]
    batches = list(micro_batches(groups, limit, plain))
    assert sorted(i for batch in batches for i in batch) == list(range(40))
    assert all(len(batch) == 1 or padded([groups[i] for i in batch]) <= limit for batch in batches)
    firsts = [groups[batch[0]].tokens for batch in batches]
    assert all(a >= b for a, b in pairwise(firsts))
    for batch, following in pairwise(batches):
        assert padded([groups[i] for i in (*batch, following[0])]) > limit


def test_a_long_prompt_and_a_long_response_are_not_put_where_both_pad_each_other() -> None:
    groups = [PromptGroup([2] * 50, ([3],)), PromptGroup([2], ([3] * 50,))]
    assert list(micro_batches(groups, 110, plain)) == [[0], [1]]
    assert list(micro_batches(groups, 200, plain)) == [[0, 1]]


def test_no_groups_make_no_batch() -> None:
    assert list(micro_batches([], 100, plain)) == []
