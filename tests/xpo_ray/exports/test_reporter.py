"""The reporter of a run: events wake trackers, a failure is told once, and the end waits no longer than it may."""

import threading
from collections.abc import Sequence
from pathlib import Path

from tests.xpo_ray.exports.journal import journal, shipper_of, step
from tests.xpo_ray.exports.test_shipper import Kept, until
from xpo_ray.exports.exporter import Point
from xpo_ray.exports.reporter import ExportReporter
from xpo_ray.reporting import Event, Tee, Warned


class Heard:
    """A reporter that keeps what it hears, and in which threads."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[int] = set()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.threads.add(threading.get_ident())

    def warnings(self) -> list[str]:
        return [e.message for e in self.events if isinstance(e, Warned)]


def test_a_tracker_that_fails_is_told_once_by_the_drivers_thread_and_the_others_go_on(tmp_path: Path) -> None:
    heard, kept = Heard(), Kept()
    written = journal(tmp_path, 1)
    away = shipper_of(tmp_path, 1, "away", lambda: Kept(fails_after=0))
    fine = shipper_of(tmp_path, 1, "fine", lambda: kept)
    exports = ExportReporter({"away": (away, 20.0), "fine": (fine, 20.0)}, tell=Tee([written, heard]))
    reporters = Tee([written, heard, exports])
    reporters.emit(step(1))
    assert away.ended(20.0)
    for total in (2, 3, 4):
        reporters.emit(step(total))
    exports.close()
    written.close()
    assert heard.warnings() == [
        "the export to away is off for the rest of this attempt: ConnectionError: the tracker is away"
    ]
    assert heard.threads == {threading.get_ident()}
    assert kept.steps == [1, 2, 3, 4]
    assert kept.closed == [False]


def test_the_end_waits_for_a_tracker_no_longer_than_its_limit(tmp_path: Path) -> None:
    free, heard = threading.Event(), Heard()

    class Slow(Kept):
        def log(self, points: Sequence[Point]) -> None:
            free.wait(60.0)
            super().log(points)

    kept = Slow()
    written = journal(tmp_path, 1)
    shipper = shipper_of(tmp_path, 1, "slow", lambda: kept)
    exports = ExportReporter({"slow": (shipper, 0.05)}, tell=heard)
    Tee([written, exports]).emit(step(1))
    exports.close()
    (warning,) = heard.warnings()
    assert warning.startswith("the export to slow has not taken everything within exports.timeout_s = 0.05 s")
    free.set()
    until(lambda: kept.closed == [False])
    written.close()


def test_a_run_without_exports_starts_no_thread() -> None:
    before = threading.active_count()
    exports = ExportReporter({}, tell=Heard())
    exports.emit(step(1))
    exports.close()
    assert threading.active_count() == before
