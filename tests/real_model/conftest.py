"""A real language model, SmolLM2-135M-Instruct, where `make real-model` has brought it; else these tests are skipped."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch


def _cached() -> Path | None:
    if find_spec("xpo_ray.demo.real_model") is not None:
        from xpo_ray.demo.real_model import cached_model

        return cached_model()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "xpo_ray" / "smollm2-135m-instruct"
    return folder if (folder / "config.json").exists() else None


@pytest.fixture(scope="session")
def real_model() -> Path:
    """The model's folder; no test writes into it."""
    if (folder := _cached()) is None:
        pytest.skip("the real model SmolLM2-135M-Instruct is not in the cache; `make real-model` fetches it")
    return folder


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As many as a trainer has on the smallest machine; results do not depend on the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
