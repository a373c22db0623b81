"""`xpo-ray models …`: models of a service, and `xpo-ray export`: the model of a run, downloaded."""

import sys
from typing import Annotated

import typer

from xpo_ray.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Models that specs may name.")
ModelId = Annotated[str, typer.Argument(help="Id of a model.", metavar="MODEL")]


@app.command()
def register(
    name: str,
    path: Annotated[str | None, typer.Option(help="Folder of the service's machine, below one of its roots.")] = None,
    repository: Annotated[str | None, typer.Option(help="Of the hub.")] = None,
    revision: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Give a folder or a repository a name."""
    from xpo_ray.cli.registering import new_model, show_model
    from xpo_ray.client import Client, calls

    asked = new_model(name, path, repository, revision)
    with Client() as client:
        show_model(client.do(calls.register_model(asked)), as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All models, newest first."""
    from xpo_ray.cli.showing import age, show_json, show_table
    from xpo_ray.client import Client, calls

    with Client() as client:
        found = list(client.each(calls.list_models))
    if as_json:
        show_json(found)
        return
    rows = [(m.id, m.name, m.architecture, m.parameters, m.path or m.repository, age(m.created_at)) for m in found]
    show_table("models", ("id", "name", "architecture", "parameters", "from", "age"), rows)


@app.command()
def show(model_id: ModelId, as_json: AsJson = False) -> None:
    """One model."""
    from xpo_ray.cli.registering import show_model
    from xpo_ray.client import Client, calls

    with Client() as client:
        show_model(client.do(calls.get_model(model_id)), as_json=as_json)


@app.command()
def delete(model_id: ModelId) -> None:
    """Forget a model; its files stay."""
    from xpo_ray.client import Client, calls

    with Client() as client:
        client.do(calls.delete_model(model_id))
    print("deleted", file=sys.stderr)
