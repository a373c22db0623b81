"""`xpo-ray runs …`: the runs of a service. Each command asks the client and shows the answer."""

import json
import sys
from itertools import islice
from typing import Annotated

import typer

from xpo_ray.cli.options import AsJson, Cpus, Follow, Gpus, Limit, MemoryGib, Notes, Overrides, Priority, RunId

app = typer.Typer(no_args_is_help=True, help="Runs of a service: list, watch, pause, cancel, fork.")
Wait = Annotated[bool, typer.Option("--wait", help="Return when it has happened.")]


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help="Only these, several times.")] = None,
    metadata: Notes = None,
    mine: Annotated[bool, typer.Option("--mine", help="Only those of this key.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Runs, newest first."""
    from xpo_ray.cli.choices import statuses
    from xpo_ray.cli.showing import show_json, show_runs
    from xpo_ray.cli.submitting import pairs
    from xpo_ray.client import Client, calls

    chosen, notes, owner = statuses(status or ()), pairs(metadata or (), "--metadata"), "self" if mine else None
    with Client() as client:
        page = min(limit, 100)
        every = client.each(lambda after: calls.list_runs(after, page, chosen, notes, owner))
        found = list(islice(every, limit))
    (show_json if as_json else show_runs)(found)


@app.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """One run: status, progress, what it holds, why it failed."""
    from xpo_ray.cli.showing import show_json, show_run
    from xpo_ray.client import Client, calls

    with Client() as client:
        run = client.do(calls.get_run(run_id))
    (show_json if as_json else show_run)(run)


@app.command()
def events(
    run_id: RunId,
    follow: Follow = False,
    after: Annotated[int, typer.Option(help="Only those behind this number.", min=0)] = 0,
    newest: Annotated[int | None, typer.Option(help="Begin with so many of the last.", min=1, max=200)] = None,
    as_json: AsJson = False,
) -> None:
    """Events of a run, oldest first."""
    from xpo_ray.cli.plain_text import line
    from xpo_ray.cli.showing import rounded
    from xpo_ray.client import Client, calls

    with Client() as client:
        if newest is not None:
            last = client.do(calls.newest_events(run_id, newest)).items
            after = max(after, last[0].seq - 1 if last else 0)
        found = (
            client.stream(run_id, after)
            if follow
            else client.each(lambda at: calls.run_events(run_id, at or str(after)))
        )
        for event in found:
            if as_json:
                print(json.dumps(event.model_dump(mode="json")), flush=True)
            else:
                payload = json.dumps(rounded(event.payload), ensure_ascii=False)
                print(line(f"{event.seq:>6} {event.at:%F %T} {event.type} {payload}", 500), flush=True)


@app.command()
def pause(run_id: RunId, wait: Wait = False, as_json: AsJson = False) -> None:
    """Stop at the next checkpoint and free the cluster; `resume` goes on."""
    from xpo_ray.cli.commanding import command_and_show

    command_and_show(run_id, "pause", wait=wait, as_json=as_json)


@app.command()
def resume(run_id: RunId, as_json: AsJson = False) -> None:
    """Put a paused run back into the queue."""
    from xpo_ray.cli.commanding import command_and_show

    command_and_show(run_id, "resume", wait=False, as_json=as_json)


@app.command()
def cancel(run_id: RunId, wait: Wait = False, as_json: AsJson = False) -> None:
    """End a run for good; what it committed stays."""
    from xpo_ray.cli.commanding import command_and_show

    command_and_show(run_id, "cancel", wait=wait, as_json=as_json)


@app.command()
def fork(
    run_id: RunId,
    iteration: Annotated[int, typer.Option(help="Whose model the new run starts from.", min=0)],
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Name of the new run.")] = None,
    priority: Priority = None,
    metadata: Notes = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory_gib: MemoryGib = None,
    secrets: Annotated[list[str] | None, typer.Option("--secret", help="Name of an operator's secret.")] = None,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """A new run that starts from the model of an iteration of another."""
    from xpo_ray.cli.submitting import changes, pairs, reservation, show_new
    from xpo_ray.client import Client, calls
    from xpo_ray.wire.runs import Fork

    asked = Fork(
        iteration=iteration,
        changes=changes(overrides or ()),
        name=name,
        priority=priority or 0,
        metadata=pairs(metadata or (), "--metadata"),
        reservation=reservation(cpus, gpus, memory_gib),
        secrets=secrets or None,
    )
    with Client() as client:
        show_new(client, client.do(calls.fork_run(run_id, asked)), follow=follow, as_json=as_json)


@app.command()
def edit(
    run_id: RunId,
    priority: Priority = None,
    metadata: Notes = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory_gib: MemoryGib = None,
    as_json: AsJson = False,
) -> None:
    """Change a queued or paused run. New notes are laid over the old ones; KEY= takes one away."""
    from xpo_ray.cli.commanding import edit_and_show

    edit_and_show(run_id, priority, metadata, {"cpus": cpus, "gpus": gpus, "memory_gib": memory_gib}, as_json=as_json)


@app.command()
def delete(run_id: RunId) -> None:
    """Delete a run that has ended, with all its files."""
    from xpo_ray.client import Client, calls

    with Client() as client:
        client.do(calls.delete_run(run_id))
    print("deleted", file=sys.stderr)


@app.command()
def samples(
    run_id: RunId,
    iteration: Annotated[int | None, typer.Option(help="Only of this one.", min=0)] = None,
    training: Annotated[bool, typer.Option("--training", help="Candidates of training prompts.")] = False,
    limit: Limit = 5,
    as_json: AsJson = False,
) -> None:
    """What the model drew."""
    from xpo_ray.cli.sampling import show_samples
    from xpo_ray.cli.showing import show_json
    from xpo_ray.client import Client, calls

    kind = "training" if training else "held_out"
    with Client() as client:
        every = client.each(lambda after: calls.run_samples(run_id, after, min(limit, 100), iteration, kind))
        found = list(islice(every, limit))
    (show_json if as_json else show_samples)(found)


@app.command()
def logs(
    run_id: RunId,
    attempt: Annotated[int | None, typer.Option(help="Default: the newest.", min=1)] = None,
) -> None:
    """What an attempt's processes printed."""
    from xpo_ray.cli.plain_text import plain, uncoloured
    from xpo_ray.client import Client, calls

    offset = 0
    with Client() as client:
        while True:
            text, following = client.do(calls.run_logs(run_id, offset, attempt=attempt))
            sys.stdout.write(plain(uncoloured(text.replace("\r\n", "\n"))))
            if following <= offset:
                return
            offset = following
