"""`xpo-ray export`: the files of a run's model, each checked against its sha256 before it gets its name."""

from pathlib import Path

from rich.console import Console
from rich.progress import track

from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json
from xpo_ray.client import Client
from xpo_ray.client.calls import get_run, run_checkpoints
from xpo_ray.errors import UserError
from xpo_ray.wire.artifacts import CheckpointView

MODEL = "model/"
"""Where the model lies in a checkpoint; beside it stand the optimizer's state and the like."""


def export_and_show(run_id: str, iteration: int | None, folder: Path, *, as_json: bool) -> None:
    """Download a model; files that the folder has already, whole, are not fetched again."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; name a folder")
    with Client() as client:
        run = client.do(get_run(run_id))
        wanted = run.selected_iteration if iteration is None else iteration
        if wanted is None:
            raise UserError(f"run {line(run.id)} is {run.status} and has no result yet; name an --iteration")
        chosen = chosen_checkpoint(client.do(run_checkpoints(run_id)), wanted)
        files = [f for f in chosen.files if f.name.startswith(MODEL)]
        for file in track(files, "download", console=Console(stderr=True), disable=as_json):
            named = file.model_copy(update={"name": file.name.removeprefix(MODEL)})
            client.download(run_id, chosen.id, named, folder)
    if as_json:
        show_json({"run": run.id, "iteration": wanted, "checkpoint": chosen.id, "folder": str(folder.absolute())})
    else:
        print(f"model of iteration {wanted}: {folder.absolute()}")


def chosen_checkpoint(checkpoints: list[CheckpointView], iteration: int) -> CheckpointView:
    """The checkpoint at the border of an iteration. Raises UserError where there is none, or its files were freed."""
    borders = {c.iteration: c for c in checkpoints if c.step == 0}
    if iteration not in borders:
        known = ", ".join(str(t) for t in sorted(borders)) or "none"
        raise UserError(f"--iteration {iteration}: no such checkpoint; published are {known}")
    if not borders[iteration].kept:
        kept = ", ".join(str(t) for t, c in sorted(borders.items()) if c.kept) or "none"
        raise UserError(f"--iteration {iteration}: retention has freed its files; kept are {kept}")
    return borders[iteration]
