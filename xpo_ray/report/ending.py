"""The report that every run leaves behind when an attempt ends. The driver calls it; it never fails a run."""

from contextlib import suppress
from pathlib import Path

from xpo_ray.errors import DiskFull
from xpo_ray.report.page import write_report
from xpo_ray.reporting import Reporter, Warned


def report_ended(root: Path, reporter: Reporter, target: Path | None = None) -> None:
    """Write the report of an attempt that has ended, well or not; whatever goes wrong is a warning."""
    try:
        write_report(root, target)
    except Exception as error:  # noqa: BLE001 - the result stands, whatever a report may raise
        with suppress(DiskFull):  # then the journal has no room for it either, and the attempt has ended by that
            reporter.emit(Warned("report_failed", f"report.html was not written: {type(error).__name__}: {error}"))
