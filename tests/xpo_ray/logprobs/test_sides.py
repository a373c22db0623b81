"""A sequence's log-prob never depends on its neighbours, whichever side of a border of the config they are on."""

import pytest
import torch
from torch import Tensor

from tests.xpo_ray.logprobs.models import BORDER, bordered, make
from xpo_ray.logprobs import PromptGroup, choose
from xpo_ray.logprobs.apart import Apart, OneByOne
from xpo_ray.logprobs.plain import plain
from xpo_ray.logprobs.sides import Sides, borders

pytestmark = pytest.mark.usefixtures("one_thread")
AROUND = [
    PromptGroup([3, 4, 5], tuple(tuple(range(10, 10 + n)) for n in (2, 8, 9, 10, 20))),  # 11, 12 and 13 tokens in all
    PromptGroup(list(range(20, 34)), ((7, 8), (9,) * 12)),
]


def one_at_a_time(kind: str, groups: list[PromptGroup]) -> Tensor:
    """By forward passes of models that have seen nothing else."""
    values = []
    for group in groups:
        for response in group.responses:
            ids = [*group.prompt_ids, *response]
            logp = bordered(kind)(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
            begin = len(group.prompt_ids)
            values.append(torch.stack([logp[i - 1, ids[i]] for i in range(begin, len(ids))]).sum())
    return torch.stack(values)


@pytest.mark.parametrize("kind", ["longrope", "dynamic", "sliding"])
@torch.no_grad()
def test_log_probs_are_those_of_each_sequence_alone(kind: str) -> None:
    model = bordered(kind)
    choice = choose(model)
    assert choice.reason is None
    expected = one_at_a_time(kind, AROUND)
    for groups in (AROUND, AROUND[::-1], AROUND):  # again, after longer ones were seen
        own = expected if groups[0] is AROUND[0] else torch.cat([expected[5:], expected[:5]])
        torch.testing.assert_close(choice.log_probs(model, groups, entropy=True).logp_S, own, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
@torch.no_grad()
def test_neighbours_beyond_a_border_would_be_felt(kind: str) -> None:
    assert (plain(bordered(kind), AROUND).logp_S - one_at_a_time(kind, AROUND)).abs().max() > 0.01


@torch.no_grad()
def test_gradients_flow_through_both_sides() -> None:
    model = bordered("longrope")
    path = choose(model).log_probs
    with torch.enable_grad():
        path(model, AROUND).logp_S.sum().backward()
        ours = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        OneByOne(plain)(model, AROUND).logp_S.sum().backward()
    for a, p in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, atol=1e-3, rtol=1e-3)


def test_lengths_on_one_side_share_a_batch() -> None:
    assert Sides(10, by_length=False).apart([3, 12, 10, 11]) == [[0, 2], [1, 3]]
    assert Sides(10, by_length=True).apart([3, 12, 10, 11, 12]) == [[0, 2], [3], [1, 4]]
    assert [Sides(10, by_length=False).before_crossing(n) for n in (4, 10, 11)] == [7, 1, 0]


def test_a_config_names_its_borders() -> None:
    assert borders(bordered("longrope").config) == [BORDER]
    assert borders(bordered("dynamic").config) == [BORDER]
    assert borders(bordered("sliding").config) == [BORDER]
    assert borders(make("llama").config) == []
    assert Sides.of(make("llama")) is None
    assert isinstance(choose(bordered("longrope")).log_probs, Apart)
