"""One tracker's thread: it reads the run's journals, and hands what the tracker does not have yet to its exporter.

The journal on disk is the queue. It is never full, so no metric is dropped, the driver never waits, and a slow tracker costs no
memory: it lags behind. The thread reads the earlier attempts' journals first, so that what a killed attempt could not send is
sent by the next one, and of a replayed step nothing is sent again. Only a kill between the tracker's taking a batch and the
mark behind it can send that batch twice (TensorBoard and MLflow then keep one of the two). The reporter starts and ends it.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from xpo_ray.exports.exporter import Exporter, Point, RunCard, Sample, Samples
from xpo_ray.exports.journals import Recorded, Tail, earlier_events, journal_of
from xpo_ray.exports.mark import Mark
from xpo_ray.exports.points import Translator
from xpo_ray.reporting import EvaluationDone

BATCH_POINTS = 500
PAUSE_S = 0.5
"""Events of this span are sent together."""


@dataclass(frozen=True)
class Shipment:
    """What a shipper is for."""

    kind: str
    card: RunCard
    exporter: Callable[[], Exporter]
    """Made in the shipper's thread: importing a library takes seconds."""
    steps_until: Callable[[int], int]
    """Total steps after an iteration."""
    samples_of: Callable[[int], tuple[Sample, ...]] | None
    """Held-out responses of an iteration; None where they are not sent."""

    @property
    def mark(self) -> Path:
        return self.card.root / "exports" / f"{self.kind}.json"


class Shipper:
    """Starts at once; after `end` it sends what is left and stops."""

    def __init__(self, shipment: Shipment) -> None:
        self.kind = shipment.kind
        self.failure: str | None = None
        """Why the thread gave up."""
        self._shipment = shipment
        self._mark = Mark()
        self._translator = Translator(shipment.steps_until)
        self._pending: list[Point | Samples] = []
        self._news = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"export-{shipment.kind}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is news in the journal; returns at once."""
        self._news.set()

    def end(self) -> None:
        """The attempt's last event is in the journal; returns at once."""
        self._ending.set()
        self._news.set()

    def ended(self, within_s: float) -> bool:
        """Wait for the thread; whether it has ended."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._ship()
        except Exception as error:  # noqa: BLE001  the tracker's library
            self.failure = f"{type(error).__name__}: {error}"

    def _ship(self) -> None:
        self._mark = Mark.read(self._shipment.mark)
        card = replace(self._shipment.card, last_step=self._mark.step)
        exporter = self._shipment.exporter()
        exporter.open(card)
        for event in earlier_events(card.root, card.attempt):
            self._take(event, exporter)
        tail, last = Tail(journal_of(card.root, card.attempt)), False
        while not last:
            self._news.clear()
            last = self._ending.is_set()  # looked at before the journal: what came before the end is read below
            for event in tail.events():
                self._take(event, exporter)
            self._send(exporter)
            if not last:
                self._news.wait()
                self._ending.wait(PAUSE_S)
        exporter.close(succeeded=self._translator.status == "succeeded")

    def _take(self, recorded: Recorded, exporter: Exporter) -> None:
        at, event = recorded
        point = self._translator.point(at, event)
        if point is None:
            return
        if isinstance(event, EvaluationDone):
            if event.iteration not in self._mark.evaluated:
                self._pending += [point, *self._samples(event.iteration, point)]
        elif point.step > self._mark.step:
            self._pending.append(point)
        if len(self._pending) >= BATCH_POINTS:
            self._send(exporter)

    def _samples(self, iteration: int, point: Point) -> list[Samples]:
        if self._shipment.samples_of is None or not (rows := self._shipment.samples_of(iteration)):
            return []
        return [Samples(iteration, point.step, point.at, rows)]

    def _send(self, exporter: Exporter) -> None:
        """Hand over what is pending, then write down that the tracker has it."""
        if not self._pending:
            return
        if points := [p for p in self._pending if isinstance(p, Point)]:
            exporter.log(points)
        for samples in self._pending:
            if isinstance(samples, Samples):
                exporter.show(samples)
        self._pending = []
        seen = self._translator
        self._mark = Mark(max(self._mark.step, seen.step), self._mark.evaluated | seen.evaluated)
        self._mark.write(self._shipment.mark)
