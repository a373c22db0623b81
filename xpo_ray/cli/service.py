"""`xpo-ray login` and `xpo-ray cluster`."""

import sys

from xpo_ray.cli.plain_text import line
from xpo_ray.cli.showing import reserved, show_json, show_pairs
from xpo_ray.client import Client
from xpo_ray.client.calls import cluster, own_key
from xpo_ray.client.login_file import Login, checked_url, write_login
from xpo_ray.errors import UserError


def log_in(url: str) -> None:
    """Ask for a key (or read it from standard input), try it, and keep it."""
    import getpass

    where = checked_url(url)
    key = (getpass.getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UserError("no key was given; an admin makes one with `xpo-ray keys create`")
    with Client(where, key) as client:
        view = client.do(own_key())
    path = write_login(Login(where, key))
    print(f"logged in at {where} as {line(view.name)} ({', '.join(view.scopes)}); kept in {path}")


def show_cluster(*, as_json: bool) -> None:
    """What the service's cluster has and gives away."""
    with Client() as client:
        found = client.do(cluster())
    if as_json:
        show_json(found)
        return
    show_pairs(
        {
            "Ray": "answers" if found.alive else "does not answer",
            "dashboard": found.dashboard,
            "has": reserved(found.totals.model_dump()),
            "reserved": reserved(found.reserved.model_dump()),
            "queue": found.queue_length,
        }
    )
