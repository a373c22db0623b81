"""What counts as the same values, by hand."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.xpo_ray.architectures import SIZES
from xpo_ray.probing import near, probe_ids


@pytest.mark.parametrize(
    ("dtype", "off", "same"),
    [
        (torch.float32, 0.9e-4, True),
        (torch.float32, 1.1e-4, False),
        (torch.bfloat16, 0.06, True),  # 8 · 2⁻⁷ = 0.0625
        (torch.bfloat16, 0.065, False),
    ],
    ids=str,
)
def test_values_may_differ_by_a_share_of_their_mean(dtype: torch.dtype, off: float, same: bool) -> None:
    own = torch.tensor([[1.0, -3.0], [2.0, -2.0]])  # 2 on the mean
    assert near(own + 2 * off, own, dtype) == same


def test_other_shapes_are_other_values() -> None:
    assert not near(torch.ones(2, 1), torch.ones(2, 2), torch.float32)


def test_a_model_knows_the_tokens_that_it_is_tried_on() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES | {"vocab_size": 4}))
    assert probe_ids(model).tolist() == [[3, 1, 0, 1, 1], [1, 2, 2, 1, 3]]
