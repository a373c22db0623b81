"""The report at the end of a run: made, or a warning."""

from pathlib import Path

from tests.xpo_ray.report.folders import attempt_in, small_run
from xpo_ray.report.ending import report_ended
from xpo_ray.reporting import Event, RunFinished, Warned


class Heard:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def test_a_run_that_has_ended_gets_its_report_and_no_warning(tmp_path: Path) -> None:
    heard = Heard()
    report_ended(small_run(tmp_path), heard)
    assert (tmp_path / "report.html").is_file()
    assert heard.events == []


def test_a_failed_run_gets_one_too_while_its_driver_still_holds_the_folder(tmp_path: Path) -> None:
    heard = Heard()
    with attempt_in(tmp_path) as run:
        run.tell(RunFinished("failed", 1.0, 0, error="Boom: it broke"))
        report_ended(tmp_path, heard)
    assert "Boom: it broke" in (tmp_path / "report.html").read_text()
    assert heard.events == []


def test_a_report_that_cannot_be_made_is_a_warning(tmp_path: Path) -> None:
    heard = Heard()
    report_ended(tmp_path, heard)
    (warned,) = heard.events
    assert isinstance(warned, Warned)
    assert warned.code == "report_failed"
    assert "no run.json" in warned.message
