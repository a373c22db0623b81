"""What several modules' tests share: a tiny model on disk, and one thread, so that tests on busy machines do not slow down."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import tiny_model_folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a tokenizer; no test writes into it."""
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes on one thread, as an engine replica does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
