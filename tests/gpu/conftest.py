"""The same tests on the CPU, at the same small size, and on a GPU where one is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_model_folder
from xpo_ray.devices import computing_on


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the test computes; what is made in it lies there."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here; `make gpu` runs this where one is")
    with computing_on(request.param) as chosen:
        yield chosen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Compilers of kernels warn of what could be faster; that is no fault of what is tested."""
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.filterwarnings("ignore::UserWarning"))


@pytest.fixture(scope="session")
def broad_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama whose heads have 32 numbers, as kernels of GPUs want at least 16; two query heads share keys and values."""
    return tiny_model_folder(tmp_path_factory.mktemp("broad") / "model", hidden=128)


@pytest.fixture(autouse=True)
def _own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
