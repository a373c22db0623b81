"""A shipper's thread: everything once, over attempts and failures; and an exporter that fails or hangs stops nothing."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.xpo_ray.exports.journal import WHOLE, evaluation, journal, ship, shipper_of, step, tell
from xpo_ray.exports.exporter import Point, RunCard, Samples
from xpo_ray.exports.shipper import Shipper
from xpo_ray.reporting import RunFinished, RunStarted


@dataclass
class Kept:
    """An exporter that keeps what it is given, and fails after so many points."""

    fails_after: int | None = None
    cards: list[RunCard] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    def open(self, card: RunCard) -> None:
        self.cards.append(card)

    def log(self, points: Sequence[Point]) -> None:
        if self.fails_after is not None and len(self.steps) >= self.fails_after:
            raise ConnectionError("the tracker is away")
        self.steps += [p.step for p in points]
        self.batches.append(len(points))

    def show(self, samples: Samples) -> None:
        self.shown.append(samples.iteration)

    def close(self, *, succeeded: bool) -> None:
        self.closed.append(succeeded)


def until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that a thread does."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_whole_run_is_sent_once_with_its_samples_and_its_end(tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    kept = Kept()
    ship(tmp_path, 1, "kept", lambda: kept)
    assert kept.steps == [1, 0, 2, 3, 2, 4, 4]
    assert kept.shown == [0, 1, 2]
    assert kept.closed == [True]
    assert json.loads((tmp_path / "exports/kept.json").read_text()) == {"step": 4, "evaluated": [0, 1, 2]}


def test_events_are_sent_while_the_journal_grows(tmp_path: Path) -> None:
    written, kept = journal(tmp_path, 1), Kept()
    shipper = shipper_of(tmp_path, 1, "kept", lambda: kept)
    for total in (1, 2, 3):
        written.emit(step(total))
        shipper.wake()
        until(lambda: kept.steps[-1:] == [total])  # noqa: B023  called in this turn
    shipper.end()
    assert shipper.ended(20.0)
    written.close()
    assert kept.steps == [1, 2, 3]


def test_the_next_attempt_sends_what_a_killed_one_had_not_sent_and_no_replayed_step_again(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2), evaluation(0))
    ship(tmp_path, 1, "kept", Kept)
    tell(tmp_path, 1, step(3))  # journaled, not sent: a kill came between
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(3, 0.9, replayed=True), step(4), evaluation(0), evaluation(1))
    kept = Kept()
    ship(tmp_path, 2, "kept", lambda: kept)
    assert kept.steps == [3, 4, 2]
    assert kept.shown == [1]
    assert kept.cards[0].last_step == 2


def test_what_a_tracker_missed_while_it_was_away_comes_with_the_next_attempt(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2), RunFinished("failed", 1.0, 0))
    away = shipper_of(tmp_path, 1, "kept", lambda: Kept(fails_after=0))
    away.end()
    assert away.ended(20.0)
    assert away.failure == "ConnectionError: the tracker is away"
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(3))
    kept = Kept()
    ship(tmp_path, 2, "kept", lambda: kept)
    assert kept.steps == [1, 2, 3]
    assert kept.closed == [False]


def test_a_long_backlog_goes_in_batches(tmp_path: Path) -> None:
    tell(tmp_path, 1, *(step(total) for total in range(1, 1202)))
    kept = Kept()
    ship(tmp_path, 1, "kept", lambda: kept)
    assert kept.batches == [500, 500, 201]


def test_a_line_that_is_not_whole_yet_waits_for_its_end(tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2))
    path = tmp_path / "attempts/0001/journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    kept = Kept()
    shipper = shipper_of(tmp_path, 1, "kept", lambda: kept)
    until(lambda: kept.steps == [1])
    with path.open("ab") as file:
        file.write(whole[-9:])
    shipper.end()
    assert shipper.ended(20.0)
    assert kept.steps == [1, 2]


def test_a_library_that_hangs_holds_up_neither_news_nor_the_end(tmp_path: Path) -> None:
    free = threading.Event()

    class Hanging(Kept):
        def open(self, card: RunCard) -> None:  # noqa: ARG002
            free.wait(60.0)

    shipper: Shipper = shipper_of(tmp_path, 1, "kept", Hanging)
    shipper.wake()
    shipper.end()
    assert not shipper.ended(0.05)
    free.set()
    assert shipper.ended(20.0)
    assert shipper.failure is None
