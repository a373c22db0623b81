"""Commands to a run and changes of it: sent, waited for where that is asked, shown."""

from collections.abc import Mapping, Sequence

import typer

from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json
from xpo_ray.cli.submitting import pairs
from xpo_ray.client import Client
from xpo_ray.client.calls import command_run, edit_run, get_run
from xpo_ray.errors import UserError
from xpo_ray.run_states import Command, Status
from xpo_ray.wire.runs import Edit, Reservation, RunView

REACHED: dict[Command, frozenset[Status]] = {
    "pause": frozenset({"paused"}),
    "cancel": frozenset({"cancelled"}),
    "resume": frozenset({"queued", "starting", "running", "waiting_for_labels"}),
}


def command_and_show(run_id: str, command: Command, *, wait: bool, as_json: bool) -> None:
    """Send a command. With `wait` it exits with 1 where the run came to another end."""
    with Client() as client:
        run = client.do(command_run(run_id, command))
        if wait:
            run = client.wait(run_id, REACHED[command])
    _show(run, as_json=as_json)
    if wait and run.status not in REACHED[command]:
        raise typer.Exit(1)


def edit_and_show(
    run_id: str,
    priority: int | None,
    metadata: Sequence[str] | None,
    amounts: Mapping[str, float | None],
    *,
    as_json: bool,
) -> None:
    """Change a run as it is now; what somebody else changed meanwhile is not overwritten."""
    given = {name: value for name, value in amounts.items() if value is not None}
    if priority is None and not metadata and not given:
        raise UserError("nothing to change: give --priority, --metadata, --cpus, --gpus or --memory-gib")
    if any(value < 0 for value in given.values()):
        raise UserError(f"--cpus, --gpus and --memory-gib must not be negative, got {given}")
    asked: dict[str, object] = {} if priority is None else {"priority": priority}
    with Client() as client:
        run = client.do(get_run(run_id))
        if metadata:
            notes = {**run.metadata, **pairs(metadata, "--metadata")}
            asked["metadata"] = {name: value for name, value in notes.items() if value}
        if given:
            asked["reservation"] = Reservation(**{**run.reservation.model_dump(), **given})
        run = client.do(edit_run(run_id, Edit.model_validate(asked), run.version))
    _show(run, as_json=as_json)


def _show(run: RunView, *, as_json: bool) -> None:
    if as_json:
        show_json(run)
    else:
        print(f"{line(run.id)}  {line(run.name)}: {run.status}")
