"""What made this run: spec, versions, attempts, and the events that a user should know of."""

from datetime import UTC, datetime
from typing import Any

import yaml

from xpo_ray.report.blocks import Block, Folded, Note, Section, Table
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.wording import counted, duration

MAX_EVENTS = 200


def provenance(run: RunFolder, _other: RunFolder | None) -> Section:
    """Attempts, events, versions, and the resolved spec."""
    blocks: tuple[Block, ...] = (_attempts(run), *_events(run), _versions(run), _spec(run))
    return Section("provenance", "Provenance", f"Run {run.run['run_id']}, made {_at(run.run['created'])}.", blocks)


def _attempts(run: RunFolder) -> Block:
    head = ("attempt", "started", "ended", "time", "from", "steps", "replayed", "tables adopted")
    logs = {a.number: a for a in run.history.attempts}
    rows = []
    for record in run.attempts:
        log = logs.get(record["attempt"])
        if log is None:
            rows.append((str(record["attempt"]), _at(record["started"]), "before its first event", *["–"] * 5))
            continue
        ended = (
            log.status if log.status != "unfinished" else run.status if log is run.history.attempts[-1] else "killed"
        )
        source = log.resumed_from or "the beginning"
        counts = (f"{log.steps:,}", f"{log.replayed:,}", f"{log.adopted_tables:,}")
        rows.append((str(log.number), _at(log.started), ended, duration(log.ended - log.started), source, *counts))
    return Table(head, tuple(rows), "Attempts at the run.", numeric=False)


def _events(run: RunFolder) -> tuple[Block, ...]:
    events = [e for e in run.history.notable if _told(e)]
    if not events:
        return (Note("No warnings, and no actor was replaced."),)
    rows = tuple((_at(e["at"]), str(e["attempt"]), *_told(e)) for e in events[-MAX_EVENTS:])
    caption = "Warnings, replaced actors and failures." + (
        f" The last {MAX_EVENTS} of {len(events)}." if len(events) > MAX_EVENTS else ""
    )
    return (Table(("time", "attempt", "what", "details"), rows, caption, numeric=False),)


def _told(event: dict[str, Any]) -> tuple[str, ...]:
    """What an event says, for those that are shown."""
    match event["type"]:
        case "Warned":
            return (f"warning: {event['code']}", event["message"])
        case "ActorReplaced":
            return (f"{event['role']} replaced", f"{event['reason']} ({counted(event['restarts'], 'restart')})")
        case "RunFinished" if event["status"] == "failed" or event["error"]:
            return (event["status"], event["error"] or "")
    return ()


def _versions(run: RunFolder) -> Block:
    names = sorted({n for r in run.attempts for n in r["versions"]})
    rows = [(name, _each(str(r["versions"].get(name, "–")) for r in run.attempts)) for name in names]
    rows.append(("python", _each(str(r["machine"]["python"]) for r in run.attempts)))
    rows.append(("cores", _each(str(r["machine"]["cores"]) for r in run.attempts)))
    return Table(("package", "version"), tuple(rows), "Versions; several where attempts differ.", numeric=False)


def _each(values: Any) -> str:
    return ", then ".join(dict.fromkeys(values))


def _spec(run: RunFolder) -> Block:
    text = yaml.safe_dump(run.spec, sort_keys=False, allow_unicode=True, width=100)
    return Folded("The resolved spec, as YAML", text)


def _at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
