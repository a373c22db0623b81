"""The real app under uvicorn in a thread, on a free port, without background threads: for tests of client and shell."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from tests.service.serving import free_port
from xpo_ray.api.app import create_app
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.upgrade import upgrade
from xpo_ray.api.keys.store import make_key
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Limits, Settings
from xpo_ray.wire.keys import NewKey


@dataclass(frozen=True)
class Served:
    """A service that answers."""

    url: str
    key: str
    key_id: str
    services: Services


def nothing_before(app: ASGIApp) -> ASGIApp:
    return app


@contextmanager
def served(
    folder: Path,
    *roots: Path,
    requests_per_minute: int = 100_000,
    before: Callable[[ASGIApp], ASGIApp] = nothing_before,
) -> Iterator[Served]:
    """A service with an admin key; `before` puts something in front of it, as a proxy stands there."""
    settings = Settings(
        storage=folder / "storage",
        disk_floor_mib=0,
        ray_address="http://127.0.0.1:9",  # nobody listens there
        roots=tuple(str(root) for root in roots),
        plugins=("vowels:score",),
        limits=Limits(requests_per_minute=requests_per_minute),
    )
    settings.storage.mkdir(parents=True)
    services = Services(settings, Database(settings.database))
    upgrade(services.database)
    with services.database.write() as session:
        made = make_key(session, NewKey(name="admin", scopes=["admin"]), services.clock())
    port = free_port()
    app = create_app(settings, services=services, background=False)
    server = uvicorn.Server(uvicorn.Config(before(app), host="127.0.0.1", port=port, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{port}", made.secret, made.id, services)
    finally:
        server.should_exit = True
        thread.join()
