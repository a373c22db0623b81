"""Lines of a journal become events again; what another version wrote is passed over."""

import json
from dataclasses import asdict
from pathlib import Path

from tests.xpo_ray.exports.journal import WHOLE, step, tell
from xpo_ray.exports.journals import Tail, earlier_events, journal_of, recorded


def test_events_come_back_as_they_were_emitted(tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    assert tuple(event for _, event in earlier_events(tmp_path, 2)) == WHOLE
    assert tuple(event for _, event in Tail(journal_of(tmp_path, 1)).events()) == WHOLE


def test_only_the_attempts_before_are_earlier_in_their_order(tmp_path: Path) -> None:
    for attempt in (3, 1, 2):
        tell(tmp_path, attempt, step(attempt))
    assert [event for _, event in earlier_events(tmp_path, 3)] == [step(1), step(2)]


def test_unknown_kinds_and_fields_are_passed_over() -> None:
    head = {"seq": 1, "attempt": 1, "at": 5.0}
    assert recorded({**head, "type": "Teleported", "where": "there"}) is None
    assert recorded({**head, "type": "StepDone", "mood": "good", **asdict(step(1))}) == (5.0, step(1))


def test_a_tail_gives_each_whole_line_once(tmp_path: Path) -> None:
    path = journal_of(tmp_path, 1)
    tail = Tail(path)
    assert list(tail.events()) == []
    tell(tmp_path, 1, step(1))
    assert [event for _, event in tail.events()] == [step(1)]
    line = json.dumps({"type": "StepDone", "at": 1.0, **asdict(step(2))}) + "\n"
    for part in (line[:20], line[20:]):
        with path.open("a") as file:
            file.write(part)
        found = [event for _, event in tail.events()]
    assert found == [step(2)]
    assert list(tail.events()) == []
