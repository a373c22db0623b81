"""`xpo-ray keys …`: keys of a service."""

import sys
from typing import Annotated

import typer

from xpo_ray.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Keys of a service.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str], typer.Option(help="admin, submit, label or read; several times.")],
    expires_in_days: Annotated[float | None, typer.Option(help="Default: never.")] = None,
    active_runs: Annotated[int | None, typer.Option(help="At most so many runs at a time.", min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; its secret is shown this one time."""
    from xpo_ray.cli.choices import scopes
    from xpo_ray.cli.plain_text import line
    from xpo_ray.cli.showing import show_json
    from xpo_ray.client import Client, calls
    from xpo_ray.errors import UserError
    from xpo_ray.wire.keys import NewKey, Quotas

    if not 1 <= len(name) <= 64 or (expires_in_days is not None and not 0 < expires_in_days <= 36_500):
        raise UserError("a key's name has 1 to 64 characters, and --expires-in-days is above 0 and at most 36500")
    quotas = Quotas(active_runs=active_runs)
    asked = NewKey(name=name, scopes=scopes(scope), expires_in_days=expires_in_days, quotas=quotas)
    with Client() as client:
        made = client.do(calls.create_key(asked))
    if as_json:
        show_json(made)
        return
    print(f"{line(made.id)}  {line(made.name)}; its secret is shown this one time:", file=sys.stderr)
    print(line(made.secret))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All keys."""
    from xpo_ray.cli.showing import age, show_json, show_table
    from xpo_ray.client import Client, calls

    with Client() as client:
        found = list(client.each(calls.list_keys))
    if as_json:
        show_json(found)
        return
    rows = [
        (k.id, k.name, k.prefix, " ".join(k.scopes), age(k.last_used_at), "revoked" if k.revoked_at else "")
        for k in found
    ]
    show_table("keys", ("id", "name", "begins with", "scopes", "last used", ""), rows)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY")]) -> None:
    """Revoke a key, at once."""
    from xpo_ray.client import Client, calls

    with Client() as client:
        client.do(calls.revoke_key(key_id))
    print("revoked", file=sys.stderr)
