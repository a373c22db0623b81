"""Two ranks, whose start takes some seconds, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.xpo_ray.group.together import Together


@pytest.fixture(scope="session")
def two() -> Iterator[Together]:
    together = Together(2)
    yield together
    together.close()
