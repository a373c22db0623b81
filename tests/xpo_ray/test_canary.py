"""A canary that differs is told with the side that is wrong."""

import math

import pytest
import torch
from torch import nn

from xpo_ray.canary import Examined, broken_tensors, canary_fault

WHOLE = Examined(-2.5, ())
BROKEN = Examined(math.nan, ("a.weight", "b.weight"))


@pytest.mark.parametrize(
    ("engine", "trainer", "examined", "same", "words"),
    [
        (
            math.nan,
            math.nan,
            Examined(math.nan, ("a.weight", "b.weight")),
            False,
            "both were given hold NaN or infinity: a.weight, b.weight",
        ),
        (-2.5, math.nan, WHOLE, False, "the trainer's own log-probs are not finite"),
        (
            math.nan,
            -2.5,
            Examined(math.nan, ("a.weight",)),
            False,
            "the engine holds have NaN or infinity, the trainer's do not",
        ),
        (math.nan, -2.5, WHOLE, True, "its own computation overflows"),
        (-3.0, -2.5, WHOLE, True, "it computes with them otherwise, or serves older ones"),
        (-3.0, -3.5, WHOLE, False, "the engine holds other weights than the trainer"),
    ],
)
def test_the_side_that_is_wrong_is_named(
    engine: float, trainer: float, examined: Examined, same: bool, words: str
) -> None:
    assert words in canary_fault(engine, trainer, examined, same=same)


def test_tensors_that_hold_no_numbers_are_found_and_the_others_counted() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    assert broken_tensors(model) == ()
    with torch.no_grad():
        for layer in model:
            assert isinstance(layer, nn.Linear)
            layer.weight[0, 1] = torch.inf
    broken = broken_tensors(model)
    assert broken == tuple(f"{i}.weight" for i in range(5))
    assert canary_fault(math.nan, math.nan, Examined(math.nan, broken), same=False).endswith("2.weight and 2 more")
