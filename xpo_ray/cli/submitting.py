"""`xpo-ray submit`: a YAML spec becomes a submission. Paths become absolute, `output.path` is left out: the service chooses.

With --upload the local files of the data are sent as datasets first, and named by their ids.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from xpo_ray.cli.following import follow_run
from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json
from xpo_ray.client import Client
from xpo_ray.client.calls import submit, upload_dataset
from xpo_ray.errors import SpecError, UserError
from xpo_ray.wire.runs import Reservation, RunView, Submission

Upload = Callable[[str, list[Path]], str]
"""Name and files of a dataset; answers with its id."""


def raw_spec(path: Path, overrides: Sequence[str] = (), name: str | None = None) -> dict[str, Any]:
    """What is submitted of a spec file. Raises SpecError."""
    from xpo_ray.spec.loading import absolute_paths, apply_override, read_yaml

    raw = read_yaml(path)
    for override in overrides:
        apply_override(raw, override)
    raw = absolute_paths(raw, path.resolve().parent)
    if name is not None:
        raw["name"] = name
    output = raw.pop("output", None)
    if isinstance(output, dict) and (rest := {k: v for k, v in output.items() if k != "path"}):
        raw["output"] = rest
    return raw


def with_uploads(raw: dict[str, Any], upload: Upload) -> dict[str, Any]:
    """The spec with its local data files replaced by datasets; `upload` is asked once for the same files."""
    from xpo_ray.datasets.files import data_files

    data, sent = raw.get("data"), dict[tuple[Path, ...], str]()
    if not isinstance(data, dict):
        return raw
    changed = dict(data)
    for part in ("source", "evaluation"):
        source = data.get(part)
        if not isinstance(source, dict) or source.get("kind") != "files" or "path" not in source:
            continue
        path = source["path"]
        files = data_files(path if isinstance(path, str) else tuple(path))
        if tuple(files) not in sent:
            sent[tuple(files)] = upload(f"{raw.get('name', 'run')}-{part}"[:63], files)
        rest = {k: v for k, v in source.items() if k not in ("kind", "path")}
        changed[part] = {**rest, "kind": "dataset", "id": sent[tuple(files)]}
    return {**raw, "data": changed}


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    """KEY=VALUE, several times. Raises UserError."""
    found = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise UserError(f"{option} {each!r}: expected KEY=VALUE")
        found[key] = value
    return found


def changes(overrides: Sequence[str]) -> dict[str, Any]:
    """`--set a.b=1` as {"a": {"b": 1}}. Raises SpecError."""
    from xpo_ray.spec.loading import apply_override

    raw: dict[str, Any] = {}
    for override in overrides:
        apply_override(raw, override)
    return raw


def submit_and_show(
    client: Client, raw: dict[str, Any], options: dict[str, Any], *, upload: bool, follow: bool, as_json: bool
) -> None:
    """Submit, print the run's id and page, and follow it where that is asked."""
    submission = built(raw, options)
    if upload:
        raw = with_uploads(raw, lambda name, files: client.do(upload_dataset(name, files)).id)
        submission = submission.model_copy(update={"spec": raw})
    show_new(client, client.do(submit(submission)), follow=follow, as_json=as_json)


def built(raw: dict[str, Any], options: dict[str, Any]) -> Submission:
    """The submission; a fault names the option. Raises SpecError."""
    from pydantic import ValidationError

    try:
        return Submission(spec=raw, **{k: v for k, v in options.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpecError(f"{where}: {first['msg']}, got {first['input']!r:.80}") from error


def reservation(cpus: float | None, gpus: float | None, memory_gib: float | None) -> Reservation | None:
    """What was asked for; None where nothing was. Raises UserError."""
    given = {"cpus": cpus, "gpus": gpus, "memory_gib": memory_gib}
    asked = {name: value for name, value in given.items() if value is not None}
    if any(value < 0 for value in asked.values()):
        raise UserError(f"--cpus, --gpus and --memory-gib must not be negative, got {asked}")
    return Reservation(**asked) if asked else None


def show_new(client: Client, run: RunView, *, follow: bool, as_json: bool) -> None:
    """A run that was just made."""
    if as_json and not follow:
        show_json(run)
    elif not as_json:
        place = "" if run.queue_position is None else f", place {run.queue_position} in the queue"
        console = Console(highlight=False, soft_wrap=True)
        console.print(f"{line(run.id)}  {line(run.name)}: {run.status}{place}", markup=False)
        console.print(f"page: {client.url}/runs/{line(run.id)}", markup=False)
    if follow:
        follow_run(client, run, as_json=as_json)
