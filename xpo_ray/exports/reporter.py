"""The reporter behind which the trackers of a run stand. The driver adds it to its Tee and closes it at the attempt's end.

It hands nothing over itself: events wake the shippers, which read the journal. It never blocks and never raises; a tracker that
fails is told once, as a Warned event from the driver's own thread, and is off for the rest of the attempt.
"""

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from xpo_ray.exports import exporter_of
from xpo_ray.exports.exporter import RunCard
from xpo_ray.exports.samples import held_out_samples
from xpo_ray.exports.shipper import Shipment, Shipper
from xpo_ray.reporting import Event, Reporter, Warned
from xpo_ray.spec.exports import ExportSpec

if TYPE_CHECKING:
    from xpo_ray.attempts import Attempt
    from xpo_ray.preparation import Prepared


class ExportReporter:
    """All trackers of an attempt."""

    def __init__(self, shippers: dict[str, tuple[Shipper, float]], tell: Reporter) -> None:
        """Shippers with their time limits at the end; `tell` hears the warnings."""
        self._shippers = shippers
        self._tell = tell
        self._told: set[str] = set()

    @classmethod
    def of(cls, prepared: "Prepared", attempt: "Attempt", tell: Reporter) -> "ExportReporter":
        """Start a shipper for each tracker of the spec; the attempt's journal may be empty yet."""
        shippers: dict[str, tuple[Shipper, float]] = {
            export.kind: (Shipper(shipment(export, prepared, attempt)), export.timeout_s)
            for export in prepared.spec.exports
        }
        return cls(shippers, tell)

    def emit(self, event: Event) -> None:  # noqa: ARG002  the journal has it
        for shipper, _ in self._shippers.values():
            shipper.wake()
        self._tell_failures()

    def close(self) -> None:
        """Let the shippers send what is left, each within its time limit."""
        for shipper, _ in self._shippers.values():
            shipper.end()
        began = time.monotonic()
        for kind, (shipper, limit_s) in self._shippers.items():
            if not shipper.ended(max(began + limit_s - time.monotonic(), 0.0)):
                self._warn(
                    kind,
                    f"has not taken everything within exports.timeout_s = {limit_s:g} s; the rest stays in the journal, "
                    "and another attempt at this run would send it",
                )
        self._tell_failures()

    def _tell_failures(self) -> None:
        for kind, (shipper, _) in self._shippers.items():
            if shipper.failure is not None:
                self._warn(kind, f"is off for the rest of this attempt: {shipper.failure}")

    def _warn(self, kind: str, what: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._tell.emit(Warned("export_failed", f"the export to {kind} {what}"))


def shipment(export: ExportSpec, prepared: "Prepared", attempt: "Attempt") -> Shipment:
    """What a tracker is told of an attempt."""
    spec = prepared.spec
    plain: dict[str, Any] = spec.model_dump(mode="json")
    tags = (spec.algorithm.kind, *(tag for tag in export.tags if tag != spec.algorithm.kind))
    card = RunCard(attempt.run_id, spec.name, attempt.number, attempt.root, plain, tags, last_step=0)
    shown = export.samples and prepared.held_out is not None
    samples = partial(held_out_samples, attempt.storage, prepared.held_out_id, spec) if shown else None
    return Shipment(export.kind, card, partial(exporter_of, export), partial(_steps_until, prepared), samples)


def _steps_until(prepared: "Prepared", iteration: int) -> int:
    return prepared.schedule.total_steps(1, iteration)
