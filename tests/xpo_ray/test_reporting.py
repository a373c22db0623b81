"""Events and their journal: every event in order, unfinished lines left out."""

import json
from pathlib import Path

from xpo_ray.reporting import Event, Journal, RunStarted, StepDone, Tee, Warned, read_journals, read_lines

STARTED = RunStarted("run_1", 2, 3, 30)
STEP = StepDone(1, 4, 4, {"loss": 0.6931, "entropy": 2.0}, 0.5, replayed=True)
WARNED = Warned("flat_loss", "nothing is learned: ü, ½")


class Heard:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)


def journal(root: Path, attempt: int, *events: Event) -> Path:
    path = root / "attempts" / f"{attempt:04d}" / "journal.jsonl"
    written = Journal(path, attempt)
    for event in events:
        written.emit(event)
    written.close()
    return path


def test_every_event_is_a_line_with_its_number_attempt_time_and_type(tmp_path: Path) -> None:
    lines = list(read_lines(journal(tmp_path, 2, STARTED, STEP)))
    assert [(e["seq"], e["attempt"], e["type"]) for e in lines] == [(1, 2, "RunStarted"), (2, 2, "StepDone")]
    assert lines[0]["at"] <= lines[1]["at"]
    assert lines[1]["metrics"] == {"loss": 0.6931, "entropy": 2.0}
    assert lines[1]["replayed"] is True


def test_an_event_is_on_disk_before_the_next_one_is_emitted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    open_journal = Journal(path, 1)
    open_journal.emit(WARNED)
    assert [e["message"] for e in read_lines(path)] == [WARNED.message]
    open_journal.close()


def test_journals_of_all_attempts_are_read_in_their_order(tmp_path: Path) -> None:
    for attempt in (2, 10, 1):
        journal(tmp_path, attempt, WARNED, STEP)
    assert [(e["attempt"], e["seq"]) for e in read_journals(tmp_path)] == [(a, s) for a in (1, 2, 10) for s in (1, 2)]


def test_a_last_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    path = journal(tmp_path, 1, STARTED, WARNED)
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1])):
        path.write_bytes(whole[:-cut])
        assert [e["type"] for e in read_journals(tmp_path)] == ["RunStarted"]


def test_where_there_is_no_journal_there_are_no_events(tmp_path: Path) -> None:
    assert list(read_journals(tmp_path)) == []
    assert list(read_lines(tmp_path / "none.jsonl")) == []


def test_lines_are_plain_ascii_json_whatever_the_text(tmp_path: Path) -> None:
    (line,) = journal(tmp_path, 1, WARNED).read_bytes().splitlines()
    assert line.isascii()
    assert json.loads(line)["message"] == WARNED.message


def test_a_tee_passes_events_on_in_order_to_each() -> None:
    first, second = Heard(), Heard()
    tee = Tee([first, second])
    tee.emit(STARTED)
    tee.emit(WARNED)
    assert first.events == second.events == [STARTED, WARNED]
