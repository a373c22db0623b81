"""What the service answered, on a terminal: JSON for programs, tables for people. Nothing here asks the service."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from xpo_ray.cli.plain_text import cell
from xpo_ray.cli.terminal import plain_table
from xpo_ray.run_states import Status
from xpo_ray.wire.runs import Progress, RunView

COLOURS: dict[Status, str] = {
    "queued": "blue",
    "starting": "cyan",
    "running": "cyan",
    "waiting_for_labels": "magenta",
    "pausing": "yellow",
    "paused": "yellow",
    "cancelling": "yellow",
    "cancelled": "dim",
    "succeeded": "green",
    "failed": "bold red",
}
BAR = 10


def show_json(answer: BaseModel | Sequence[BaseModel] | Mapping[str, Any]) -> None:
    """JSON in ASCII: nothing in it reaches a terminal as a control character."""
    if isinstance(answer, BaseModel):
        value: Any = answer.model_dump(mode="json")
    elif isinstance(answer, Mapping):
        value = answer
    else:
        value = [each.model_dump(mode="json") for each in answer]
    print(json.dumps(value, indent=2))


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table of texts that are shown as they are; a cell may also be a Text of our own."""
    table = plain_table(title)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    for row in rows:
        table.add_row(*(each if hasattr(each, "plain") else cell("–" if each is None else each) for each in row))  # type: ignore[arg-type]
    Console(highlight=False).print(table)


def show_pairs(pairs: Mapping[str, object]) -> None:
    """One thing as name and value."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, value in pairs.items():
        if value is not None and value != "":
            table.add_row(cell(name, "dim"), value if hasattr(value, "plain") else cell(value))  # type: ignore[arg-type]
    Console(highlight=False, soft_wrap=True).print(table)


def show_runs(runs: Sequence[RunView]) -> None:
    """One row for each run."""
    rows = [(r.id, r.name, _status(r), progress_bar(r.progress), age(r.created_at), r.waiting_for) for r in runs]
    show_table("runs", ("id", "name", "status", "steps", "age", "waits for"), rows)


def show_run(run: RunView) -> None:
    """One run."""
    p, error = run.progress, run.error
    remaining = f"{span(p.seconds_remaining)} left" if p.seconds_remaining else None
    show_pairs(
        {
            "run": run.id,
            "name": run.name,
            "status": _status(run),
            "waits for": run.waiting_for,
            "place in the queue": run.queue_position,
            "attempt": run.attempt,
            "iterations": f"{p.iteration}/{p.iterations}",
            "steps": " ".join(t for t in (progress_bar(p), remaining) if t),
            "replayed steps": p.replayed_steps or None,
            "reservation": reserved(run.reservation.model_dump()),
            "priority": run.priority,
            "metadata": ", ".join(f"{k}={v}" for k, v in run.metadata.items()),
            "forked from": run.forked_from and f"{run.forked_from.run}, iteration {run.forked_from.iteration}",
            "Ray job": run.ray_job,
            "submitted": f"{age(run.created_at)} ago",
            "result": None if run.selected_iteration is None else f"model of iteration {run.selected_iteration}",
            "tier": run.tier,
            "error": error and f"{error.message} ({error.kind}, {error.code})",
        }
    )


def progress_bar(progress: Progress) -> str:
    """████░░░░░░ 12/30."""
    if not progress.total_steps:
        return ""
    full = min(BAR, BAR * progress.steps // progress.total_steps)
    return f"{'█' * full}{'░' * (BAR - full)} {progress.steps}/{progress.total_steps}"


def reserved(amounts: Mapping[str, float]) -> str:
    """2 CPUs, 1 GPU."""
    names = {"cpus": "CPU", "gpus": "GPU"}
    found = [f"{n:g} {name}{'' if n == 1 else 's'}" for key, name in names.items() if (n := amounts.get(key))]
    found += [f"{amounts['memory_gib']:.3g} GiB of memory"] if amounts.get("memory_gib") else []
    return ", ".join(found) or "nothing"


def rounded(value: Any) -> Any:
    """Plain data with its numbers as people read them."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def age(then: datetime | None, now: datetime | None = None) -> str:
    """How long ago."""
    return "–" if then is None else span(((now or datetime.now(UTC)) - then).total_seconds())


def span(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _status(run: RunView) -> object:
    return cell(run.status, COLOURS.get(run.status, ""))
