"""`xpo-ray datasets …`: datasets of a service."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from xpo_ray.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Datasets of a service.")
DatasetId = Annotated[str, typer.Argument(help="Id of a dataset.", metavar="DATASET")]


@app.command()
def upload(
    name: Annotated[str, typer.Argument(help="Letters, digits, '.', '_', '-'.")],
    paths: Annotated[list[Path], typer.Argument(help="Parquet, jsonl, json or csv files, folders, globs.")],
    as_json: AsJson = False,
) -> None:
    """Send files; all rows are checked before the answer."""
    from xpo_ray.cli.registering import show_dataset
    from xpo_ray.client import Client, calls
    from xpo_ray.datasets.files import data_files

    files = data_files(tuple(str(path) for path in paths))
    with Client() as client:
        show_dataset(client.do(calls.upload_dataset(name, files)), as_json=as_json)


@app.command()
def register(
    name: str,
    path: Annotated[str | None, typer.Option(help="Of the service's machine, below one of its roots.")] = None,
    repository: Annotated[str | None, typer.Option(help="Of the hub.")] = None,
    config: Annotated[str | None, typer.Option()] = None,
    split: Annotated[str, typer.Option()] = "train",
    revision: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Name files that the service can see, or a repository of the hub."""
    from xpo_ray.cli.registering import new_dataset, show_dataset
    from xpo_ray.client import Client, calls

    asked = new_dataset(name, path, repository, {"config": config, "split": split, "revision": revision})
    with Client() as client:
        show_dataset(client.do(calls.register_dataset(asked)), as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All datasets, newest first."""
    from xpo_ray.cli.showing import age, show_json, show_table
    from xpo_ray.client import Client, calls

    with Client() as client:
        found = list(client.each(calls.list_datasets))
    if as_json:
        show_json(found)
        return
    rows = [(d.id, d.name, d.kind, d.rows, d.format, " ".join(d.usable_for), age(d.created_at)) for d in found]
    show_table("datasets", ("id", "name", "kind", "rows", "format", "usable for", "age"), rows)


@app.command()
def show(dataset_id: DatasetId, as_json: AsJson = False) -> None:
    """One dataset: its columns, and what they were recognised as."""
    from xpo_ray.cli.registering import show_dataset
    from xpo_ray.client import Client, calls

    with Client() as client:
        show_dataset(client.do(calls.get_dataset(dataset_id)), as_json=as_json)


@app.command()
def preview(dataset_id: DatasetId, limit: Annotated[int, typer.Option(min=1)] = 5, as_json: AsJson = False) -> None:
    """The first rows."""
    from xpo_ray.cli.registering import show_preview
    from xpo_ray.cli.showing import show_json
    from xpo_ray.client import Client, calls

    with Client() as client:
        found = client.do(calls.preview_dataset(dataset_id, limit))
    (show_json if as_json else show_preview)(found)


@app.command()
def delete(dataset_id: DatasetId) -> None:
    """Delete a dataset; uploaded files go, registered ones stay."""
    from xpo_ray.client import Client, calls

    with Client() as client:
        client.do(calls.delete_dataset(dataset_id))
    print("deleted", file=sys.stderr)
