"""One Ray for all tests of this folder, and the run that most of them look at or compare with."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.running import tiny_world, write_spec
from xpo_ray.preparation import prepare
from xpo_ray.reporting import Event
from xpo_ray.results import Result
from xpo_ray.spec.loading import load_spec


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """With two GPUs that are only counted; runs take none of them unless they say so."""
    ray.init(address="local", num_gpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@dataclass
class Heard:
    """A reporter that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


@dataclass(frozen=True)
class World:
    """A folder with a model, data and a judge, and the raw spec of a SELM run over them."""

    folder: Path
    raw: dict[str, Any]

    def run(self, name: str, *overrides: str, resume: bool = False, raw: dict[str, Any] | None = None) -> "Ran":
        """Run in this process on the session's Ray, into a folder of its own."""
        from xpo_ray.actors.driver import run_foreground

        path = write_spec(self.folder, raw or self.raw, f"{name}.yaml")
        spec = load_spec(path, [f"output.path=./{name}", f"name={name}", *overrides])
        heard = Heard()
        return Ran(run_foreground(prepare(spec, self.folder), resume=resume, reporter=heard), heard)


@dataclass(frozen=True)
class Ran:
    """A run that has ended well."""

    result: Result
    heard: Heard


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    return World(folder, tiny_world(folder))


@pytest.fixture(scope="session")
def selm(world: World, request: pytest.FixtureRequest) -> Ran:
    """An undisturbed SELM run."""
    request.getfixturevalue("cluster")
    return world.run("undisturbed")
