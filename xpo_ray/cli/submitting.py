"""`xpo-ray submit`: a YAML spec becomes a submission. Paths become absolute, `output.path` is left out: the service chooses.

With --upload the spec is checked here, then the local files of the data are sent as datasets and named by their ids. Where
the service refuses the run, the datasets that were just sent are deleted again.
"""

import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from rich.console import Console

from xpo_ray.cli.following import follow_run
from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import show_json
from xpo_ray.client import Client
from xpo_ray.client.calls import delete_dataset, submit, upload_dataset
from xpo_ray.errors import SpecError, UserError, XpoRayError
from xpo_ray.wire.runs import Reservation, RunView, Submission

Upload = Callable[[str, list[Path]], str]
"""Name and files of a dataset; answers with its id."""
PARTS = ("source", "evaluation")
"""Of `data`: where a spec names files."""


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
    """The spec with its local data files replaced by datasets; `upload` is asked once for the same files, and only when the
    files of all parts are there."""
    from xpo_ray.datasets.files import data_files

    data = raw.get("data")
    if not isinstance(data, dict):
        return raw
    local: dict[str, tuple[Path, ...]] = {}
    for part in PARTS:
        source = data.get(part)
        if isinstance(source, dict) and source.get("kind") == "files" and "path" in source:
            path = source["path"]
            local[part] = tuple(data_files(path if isinstance(path, str) else tuple(path)))
    sent: dict[tuple[Path, ...], str] = {}
    changed = dict(data)
    for part, files in local.items():
        if files not in sent:
            sent[files] = upload(f"{raw.get('name', 'run')}-{part}"[:63], list(files))
        rest = {k: v for k, v in data[part].items() if k not in ("kind", "path")}
        changed[part] = {**rest, "kind": "dataset", "id": sent[files]}
    return {**raw, "data": changed}


def check_locally(raw: dict[str, Any]) -> None:
    """What can be said of a spec before the service has its data. Raises SpecError."""
    from xpo_ray.spec.loading import parse_spec

    raw = deepcopy(raw)
    raw["output"] = {**(raw.get("output") or {}), "path": "chosen by the service"}
    model, data = raw.get("model"), raw.get("data")
    if isinstance(model, dict) and "registered" in model:
        raw["model"] = {"path": "known to the service", **{k: v for k, v in model.items() if k != "registered"}}
    for part in PARTS if isinstance(data, dict) else ():
        source = raw["data"].get(part)
        if isinstance(source, dict) and source.get("kind") == "dataset":
            rest = {k: v for k, v in source.items() if k != "id"}
            raw["data"][part] = {**rest, "kind": "files", "path": "known to the service"}
    parse_spec(raw)


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
    run = submit_with_data(client, submission) if upload else client.do(submit(submission))
    show_new(client, run, follow=follow, as_json=as_json)


def submit_with_data(client: Client, submission: Submission) -> RunView:
    """Submit with the local files of the data sent first. A refusal takes back what was sent; where nobody knows whether the
    run was accepted, the datasets stay and are named."""
    check_locally(submission.spec)
    sent: list[str] = []

    def send(name: str, files: list[Path]) -> str:
        sent.append(client.do(upload_dataset(name, files)).id)
        return sent[-1]

    try:
        spec = with_uploads(submission.spec, send)
        return client.do(submit(submission.model_copy(update={"spec": spec})))
    except UserError:
        for dataset_id in sent:
            _take_back(client, dataset_id)
        raise
    except BaseException:
        if sent:
            print(f"uploaded and kept, the run may have them: {', '.join(map(line, sent))}", file=sys.stderr)
        raise


def _take_back(client: Client, dataset_id: str) -> None:
    try:
        client.do(delete_dataset(dataset_id))
    except XpoRayError as error:
        print(f"dataset {line(dataset_id)} was uploaded and could not be deleted again: {line(error)}", file=sys.stderr)


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
