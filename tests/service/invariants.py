"""What must hold of a run after any disturbance, looked up in the database and on the disk (invariants I1 to I8 and I10).

Each check returns the faults that it found, as sentences; a sound run has none. Nothing of xpo_ray.api but its tables is used,
so that the service does not vouch for itself.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Attempt, Event, Run, Step
from xpo_ray.run_states import FINAL, FOLLOWS
from xpo_ray.storage import LocalStorage, lineage


@dataclass(frozen=True)
class Tally:
    """What a disturbance cost."""

    attempts: int
    drawn_again: int
    """Committed tables that a later attempt made again."""
    twice_in_lineage: int
    replayed: int
    replaced: int
    """Actors."""


def faults_of(storage: Path, database_url: str, run_id: str, *, canary: str | None = None) -> list[str]:
    """Everything that is wrong with a run."""
    engine = create_engine(database_url)
    try:
        with Session(engine) as session:
            run = session.get(Run, run_id)
            assert run is not None, f"no run {run_id}"
            events = list(session.scalars(select(Event).where(Event.run_id == run_id).order_by(Event.seq)))
            attempts = list(session.scalars(select(Attempt).where(Attempt.run_id == run_id).order_by(Attempt.number)))
            steps = list(session.scalars(select(Step).where(Step.run_id == run_id).order_by(Step.total_step)))
            root = storage / "runs" / run_id
            found = [*_log(run, events), *_attempts(run, attempts), *_files(root), *_left_over(root, run)]
            if run.status == "succeeded":
                found += [*_steps(root, steps), *_result(root, run)]
    finally:
        engine.dispose()
    return [*found, *([] if canary is None else _leaks(storage, canary))]


def tally(root: Path) -> Tally:
    """What was done twice, from the journals and the adoption lists."""
    again = 0
    for folder in sorted((root / "attempts").iterdir()):
        adopted_file, journal = folder / "adopted.json", folder / "journal.jsonl"
        if not adopted_file.exists() or not journal.exists():
            continue
        adopted = {c["key"] for c in json.loads(adopted_file.read_text())["commits"]}
        for e in _lines(journal):
            if e["type"] == "ShardDone" and e["fresh"] and e["stage"] != "held-out":
                again += f"iteration-{e['iteration']:04d}/{e['stage']}/shard-{e['shard']:05d}" in adopted
    ledger = _ledger(root)
    events = told(root)
    replayed = sum(e["replayed"] for e in events if e["type"] == "StepDone")
    replaced = sum(e["type"] == "ActorReplaced" for e in events)
    attempts = len(list((root / "attempts").iterdir()))
    return Tally(attempts, again, len(ledger) - len(set(ledger)), replayed, replaced)


def new_work_s(root: Path, struck_at: float, attempt: int) -> float | None:
    """Seconds from a disturbance to the first new shard or step after it was dealt with: by the next attempt, or in the place
    of an actor. Where it needed neither, to the first new work at all; None where there was none left to do."""
    later = [e for e in told(root) if e["at"] > struck_at]
    noticed = [e["at"] for e in later if e["attempt"] > attempt or e["type"] == "ActorReplaced"]
    new = [e["at"] for e in later if e["at"] >= min(noticed, default=struck_at) and _is_new_work(e)]
    return min(new) - struck_at if new else None


def _log(run: Run, events: list[Event]) -> Iterator[str]:
    """I1: the log has no gap, and the status moved only along the graph."""
    if [e.seq for e in events] != list(range(1, run.event_seq + 1)):
        yield f"the event log has gaps: {[e.seq for e in events]}, the run's counter is {run.event_seq}"
    status: Any = "queued"
    for event in events:
        if event.type != "status_changed":
            continue
        before, after = event.payload["from"], event.payload["to"]
        if before != status:
            yield f"event {event.seq} moves from {before}, the run was {status}"
        if after not in FOLLOWS[before]:
            yield f"event {event.seq}: {before} → {after} is no arrow of the graph"
        if before in FINAL:
            yield f"event {event.seq}: {before} was final"
        status = after
    if status != run.status:
        yield f"the log ends in {status}, the run is {run.status}"


def _attempts(run: Run, attempts: list[Attempt]) -> Iterator[str]:
    """Attempts are numbered without a gap, and all have ended when the run has."""
    if [a.number for a in attempts] != list(range(1, run.attempt + 1)):
        yield f"attempts {[a.number for a in attempts]}, the run counts {run.attempt}"
    if run.status in FINAL and (open_ones := [a.number for a in attempts if a.state != "ended"]):
        yield f"the run is {run.status}, attempts {open_ones} have not ended"


def _files(root: Path) -> Iterator[str]:
    """I7: what is committed is there, whole."""
    attempts = sorted(int(p.parent.name) for p in (root / "attempts").glob("*/adopted.json"))
    if not attempts:
        return
    for commit in LocalStorage(root, attempts[-1]).visible()["commits"]:
        path = root / commit["path"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != commit["sha256"]:
            yield f"{commit['path']} is missing or differs from its commit"


def _left_over(root: Path, run: Run) -> Iterator[str]:
    """I8: a run that has ended leaves nothing half-written of its last attempt."""
    if run.status != "succeeded":
        return
    for path in root.rglob("*"):
        if path.name.endswith(".tmp") or path.name.startswith(".writing-"):
            yield f"{path.relative_to(root)} was left behind"


def _steps(root: Path, steps: list[Step]) -> Iterator[str]:
    """I2, I3: along the lineage each step stands once, and the database has each once."""
    ledger = _ledger(root)
    if len(ledger) != len(set(ledger)):
        yield f"steps stand twice in the lineage: {ledger}"
    if [s.total_step for s in steps] != list(range(1, len(ledger) + 1)):
        yield f"the database has steps {[s.total_step for s in steps]}, the lineage {len(ledger)}"


def _result(root: Path, run: Run) -> Iterator[str]:
    """The result lies in the attempt that ended the run."""
    folder = root / "attempts" / f"{run.attempt:04d}"
    if not any((folder / "model").glob("*.safetensors")):
        yield f"attempt {run.attempt} has no model"
    others = [p.parent.name for p in (root / "attempts").glob("*/result.json") if p.parent != folder]
    if others:
        yield f"attempts {others} wrote a result too"


def _leaks(storage: Path, canary: str) -> Iterator[str]:
    """I10: a secret stands nowhere below the storage folder."""
    for path in storage.rglob("*"):
        if path.is_file() and canary.encode() in path.read_bytes():
            yield f"a secret stands in {path.relative_to(storage)}"


def _ledger(root: Path) -> list[tuple[int, int]]:
    attempts = sorted(int(p.parent.name) for p in (root / "attempts").glob("*/adopted.json"))
    checkpoints = LocalStorage(root, attempts[-1]).checkpoints() if attempts else []
    if not checkpoints:
        return []
    return [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger]


def told(root: Path) -> list[dict[str, Any]]:
    """The records of all journals of a run."""
    return [e for path in sorted((root / "attempts").glob("*/journal.jsonl")) for e in _lines(path)]


def _is_new_work(event: dict[str, Any]) -> bool:
    if event["type"] == "ShardDone":
        return bool(event["fresh"]) and event["stage"] != "held-out"
    return event["type"] == "StepDone" and not event["replayed"]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal; a line that a kill cut short is left out."""
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n") and re.match(r"\{", line):
            yield json.loads(line)
