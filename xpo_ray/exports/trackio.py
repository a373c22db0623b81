"""Trackio: one run, found again by its name, which ends in the run's id.

A thread of the library writes to its database every half second, so that a kill may lose the points of the last half second;
they stay in the run's journal.
"""

import io
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from xpo_ray.exports.exporter import Point, RunCard, Samples
from xpo_ray.spec.exports import TrackioExport

if TYPE_CHECKING:
    from trackio import Run


class TrackioExporter:
    """Metrics, the spec as config, and samples as a Table."""

    def __init__(self, export: TrackioExport) -> None:
        self._export = export
        self._run: Run | None = None

    @property
    def run(self) -> "Run":
        assert self._run is not None, "open comes first"
        return self._run

    def open(self, card: RunCard) -> None:
        import trackio

        config = {"name": card.name, "run_id": card.run_id, "tags": list(card.tags), **card.settings()}
        with greetings_to_stderr():
            self._run = trackio.init(
                self._export.project,
                name=f"{card.name}-{card.run_id}",
                group=card.tags[0],
                config=config,
                resume="allow",
                private=True,  # a Space made for it would be public by default, with prompts and responses
                embed=False,
                auto_log_cpu=False,
            )

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self.run.log(point.values, step=point.step)

    def show(self, samples: Samples) -> None:
        import trackio

        rows = [{"iteration": samples.iteration, **asdict(sample)} for sample in samples.rows]
        table = trackio.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
        self.run.log({"evaluation/samples": table}, step=samples.step)

    def close(self, *, succeeded: bool) -> None:  # noqa: ARG002  Trackio has no place for it
        with greetings_to_stderr():
            self.run.finish()


@contextmanager
def greetings_to_stderr() -> Iterator[None]:
    """Trackio greets on standard output, which belongs to the run's own lines; other threads' lines go there as ever."""
    before = sys.stdout
    divided = _ByThread(before, threading.get_ident())
    sys.stdout = divided
    try:
        yield
    finally:
        if sys.stdout is divided:
            sys.stdout = before


class _ByThread(io.TextIOBase):
    """Standard output for all threads but one."""

    def __init__(self, usual: TextIO, apart: int) -> None:
        self._usual, self._apart = usual, apart

    def _target(self) -> TextIO:
        return sys.stderr if threading.get_ident() == self._apart else self._usual

    def write(self, text: str) -> int:
        return self._target().write(text)

    def flush(self) -> None:
        self._target().flush()

    def isatty(self) -> bool:
        return self._usual.isatty()

    def fileno(self) -> int:
        return self._usual.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._usual.encoding
