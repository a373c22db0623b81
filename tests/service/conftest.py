"""What the runs of the fault suite work on, the result that they must have, and a service for each of them."""

from collections.abc import Iterator

import pytest

from tests.service.recovery import CANARY, LEASE_S, World
from tests.service.serving import Service, serving


@pytest.fixture(scope="session")
def slow_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A tiny run whose judge takes its time."""
    return World.of(tmp_path_factory.mktemp("world"), judge_s=0.15)


@pytest.fixture(scope="module")
def watched_service(slow_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a head of its own, a secret, and a short lease; it goes through all disturbances of a file."""
    folder = tmp_path_factory.mktemp("service")
    secrets = folder / "secrets.json"
    secrets.write_text(f'{{"HIDDEN": "{CANARY}"}}')
    options = ("--secrets-file", str(secrets), "--lease-s", str(LEASE_S))
    with serving(folder / "storage", slow_world.folder, *options) as made:
        yield made
