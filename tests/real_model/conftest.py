"""A real language model, SmolLM2-135M-Instruct, where `make real-model` has brought it; else these tests are skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from xpo_ray.demo.real_model import cached_model


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The model's folder; no test writes into it."""
    if (folder := cached_model()) is None:
        pytest.skip("the real model SmolLM2-135M-Instruct is not in the cache; `make real-model` fetches it")
    return folder


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As many as a trainer has on the smallest machine; results do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
