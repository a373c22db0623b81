"""On trained weights the shared path is taken in both types, and is as near to float32 as the plain one."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.real_model.questions import groups
from xpo_ray.checkpoints import load_model
from xpo_ray.logprobs import choose, plain, precision, shared

CPU = torch.device("cpu")


pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@torch.no_grad()
def test_the_real_model_takes_the_shared_path(real_model: Path, dtype: Literal["float32", "bfloat16"]) -> None:
    model = load_model(real_model, "float32")
    choice = choose(model, dtype)
    assert choice.reason is None
    assert choice.log_probs is shared
    asked = groups(real_model)
    exact = plain(model, asked).logp_S
    with precision(dtype, CPU):
        near = [path(model, asked).logp_S for path in (plain, shared)]
    errors = [float((logp - exact).square().mean().sqrt()) for logp in near]
    print(f"FIGURES {dtype}: nats from float32, root mean square: plain {errors[0]:.2g}, shared {errors[1]:.2g}")
    limit = 1e-3 if dtype == "float32" else 0.02 * float(exact.abs().mean())
    assert max(errors) < limit
