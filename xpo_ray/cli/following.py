"""Following a run of the service: its events drive the same bars as `xpo-ray run`. Ctrl-C leaves the run running."""

import json
import sys
from dataclasses import fields
from typing import Any

import typer
from rich.console import Console

from xpo_ray import reporting
from xpo_ray.cli.plain_text import line, plain, unmarked
from xpo_ray.cli.terminal import BARS, Terminal
from xpo_ray.client import Client
from xpo_ray.client.calls import get_run
from xpo_ray.wire.events import EventView
from xpo_ray.wire.runs import RunView

KINDS: dict[str, type[Any]] = {
    "run_started": reporting.RunStarted,
    "data_read": reporting.DataRead,
    "run_resumed": reporting.RunResumed,
    "iteration_started": reporting.IterationStarted,
    "shard_done": reporting.ShardDone,
    "step_done": reporting.StepDone,
    "evaluation_done": reporting.EvaluationDone,
    "actor_replaced": reporting.ActorReplaced,
    "warned": reporting.Warned,
}


def follow_run(client: Client, run: RunView, *, as_json: bool) -> None:
    """Show a run to its end; exits with 1 where it did not succeed."""
    try:
        if as_json:
            for event in client.stream(run.id):
                print(json.dumps(event.model_dump(mode="json")), flush=True)
        else:
            _show(client, run)
    except KeyboardInterrupt:
        print(f"\nthe run goes on; see it again: xpo-ray runs events {line(run.id)} --follow", file=sys.stderr)
        raise typer.Exit(130) from None
    _end(client.do(get_run(run.id)), as_json=as_json)


def event_of(view: EventView) -> reporting.Event | None:
    """The event that a driver emitted, its texts without markup; None for one that this version does not know."""
    kind, payload = KINDS.get(view.type), {**unmarked(view.payload), "attempt": view.attempt}
    if kind is None or not {f.name for f in fields(kind)} <= {*payload, "dashboard"}:
        return None
    if kind is reporting.ShardDone and payload["stage"] not in {*BARS} - {"steps"}:
        return None
    event: reporting.Event = kind(**{f.name: payload[f.name] for f in fields(kind) if f.name in payload})
    return event


def _show(client: Client, run: RunView) -> None:
    with Terminal(Console(), unmarked(run.name)) as terminal:
        for view in client.stream(run.id):
            event = event_of(view)
            if event is not None:
                terminal.emit(event)
            elif view.type == "status_changed":
                terminal.say(f"[bold]{unmarked(view.payload.get('to', ''))}[/] {unmarked(view.payload.get('why', ''))}")


def _end(run: RunView, *, as_json: bool) -> None:
    if not as_json and run.error is not None:
        print(plain(f"{run.error.message} ({run.error.kind}, {run.error.code})"), file=sys.stderr)
    if not as_json and run.status == "succeeded":
        print(f"model of iteration {run.selected_iteration}: xpo-ray export {line(run.id)} --to DIR")
    if run.status != "succeeded":
        raise typer.Exit(1)
