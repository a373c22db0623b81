"""`xpo-ray export`: the files of a run's model, each checked against its sha256 before it gets its name.

After a cut the same command goes on: whole files stay, a part is gone on with. A folder with anything else in it is refused.
"""

from pathlib import Path

from rich.console import Console
from rich.progress import track

from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json
from xpo_ray.client import Client
from xpo_ray.client.calls import get_run, run_checkpoints
from xpo_ray.client.downloads import Download
from xpo_ray.errors import UserError
from xpo_ray.wire.artifacts import CheckpointView, FileView

MODEL = "model/"
"""Where the model lies in a checkpoint; beside it stand the optimizer's state and the like."""


def export_and_show(run_id: str, iteration: int | None, folder: Path, *, as_json: bool) -> None:
    """Download a model; files that the folder has already, whole, are not fetched again."""
    with Client() as client:
        run = client.do(get_run(run_id))
        wanted = run.selected_iteration if iteration is None else iteration
        if wanted is None:
            raise UserError(f"run {line(run.id)} is {run.status} and has no result yet; name an --iteration")
        chosen = chosen_checkpoint(client.do(run_checkpoints(run_id)), wanted)
        try:
            files = missing(run_id, chosen, folder)
            for file in track(files, "download", console=Console(stderr=True), disable=as_json):
                client.download(run_id, chosen.id, file, folder)
        except OSError as error:
            remedy = "what came stays; mend it, and the same command goes on"
            raise UserError(f"--to {folder}: {error.strerror or error}; {remedy}") from error
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


def missing(run_id: str, chosen: CheckpointView, folder: Path) -> list[FileView]:
    """The model's files that the folder does not have yet, named as they are to be there. Raises UserError where the folder
    holds something that is not of this model: it would be mixed with it, or lost."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder}: is a file; name a folder")
    names = [(f, f.name.removeprefix(MODEL)) for f in chosen.files if f.name.startswith(MODEL)]
    files = [file.model_copy(update={"name": name}) for file, name in names]
    wanted = [(file, Download(run_id, chosen.id, file, folder)) for file in files]
    whole = {d.target for _, d in wanted if d.done}
    known = whole | {d.part for _, d in wanted}
    foreign = sorted(p for p in folder.resolve().rglob("*") if not p.is_dir() and p not in known)
    if foreign:
        name = line(foreign[0].relative_to(folder.resolve()), 60)
        raise UserError(f"--to {folder}: holds {name}, which is not of this model; name a new or an empty folder")
    return [file for file, download in wanted if download.target not in whole]
