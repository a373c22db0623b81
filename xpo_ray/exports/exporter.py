"""What an experiment tracker must do for a run, and what it is given: a card of the run, points, and held-out samples.

One file of this folder implements `Exporter` for each library. A shipper calls it from one thread of its own, so that a library
may block or raise as it likes. Exporters never read the run's folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class RunCard:
    """A run as a tracker shows it; run_id is the same in all attempts."""

    run_id: str
    name: str
    attempt: int
    root: Path
    """Output folder of the run; what a library writes to disk goes into a folder of its own below it."""
    spec: Mapping[str, Any]
    """The resolved spec as plain data."""
    tags: tuple[str, ...]
    last_step: int
    """The last total step that earlier attempts have sent; 0 at first."""

    def settings(self) -> dict[str, Any]:
        """The spec with one key for each leaf, as in {"training.batch_size": 64}."""
        return dict(_leaves(self.spec, ""))


@dataclass(frozen=True)
class Point:
    """Values at one total step, for example {"train/loss": 0.69, "train/iteration": 1}."""

    step: int
    at: float
    """Seconds since the epoch at which the run measured them."""
    values: dict[str, float]


@dataclass(frozen=True)
class Sample:
    """A held-out response with its scores; None where there is no score to compare with."""

    prompt_id: str
    prompt: str
    response: str
    tokens: int
    ended: bool
    score: float | None
    base_score: float | None
    previous_score: float | None


@dataclass(frozen=True)
class Samples:
    """Held-out responses of the model after an iteration; 0 is the base."""

    iteration: int
    step: int
    at: float
    rows: tuple[Sample, ...]


class Exporter(Protocol):
    """A tracker. Any method may raise what its library raises; then the run warns once and goes on without it."""

    def open(self, card: RunCard) -> None:
        """Begin the run in the tracker, or go on with it."""

    def log(self, points: Sequence[Point]) -> None:
        """Hand points over to the library; steps need not rise from call to call."""

    def show(self, samples: Samples) -> None:
        """Hand over held-out responses, as a table where the library has one."""

    def close(self, *, succeeded: bool) -> None:
        """Flush, and mark the run as finished or failed."""


def _leaves(value: Any, where: str) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for k, v in value.items() for leaf in _leaves(v, f"{where}.{k}" if where else str(k))]
    return [(where, value)]
