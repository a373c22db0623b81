"""`xpo-ray serve`: the service in this process. SIGINT and SIGTERM end the API alone; the Ray head and its runs go on.

Prints where everything is, the first admin key once, and one ready line for programs: `ready http://127.0.0.1:8600`. What is
wrong with the settings, the port or the database is said in one line, before Ray is touched.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError

from xpo_ray.api.app import create_app
from xpo_ray.api.changes import Changes
from xpo_ray.api.cluster.head import Head
from xpo_ray.api.logs import configure
from xpo_ray.api.settings import Settings
from xpo_ray.cli.serving_settings import checked, read_settings, shown_url
from xpo_ray.errors import UserError

GRACE_S = 10


class Server(uvicorn.Server):
    """Ends open event streams with itself, and returns after a signal instead of raising it again."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._changes.close()
        await super().shutdown(sockets)


def serve(config: Path | None, admin_key_file: Path | None, flags: dict[str, Any]) -> None:
    """Serve until a signal comes. Raises UserError where it cannot begin."""
    settings = checked(read_settings(config, flags), admin_key_file)
    configure(settings)
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _bound(settings) as listener:
        app = create_app(settings, on_first_key=lambda secret: _first_key(secret, admin_key_file))
        server = Server(_uvicorn(app), app.state.services.changes)
        with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_served(app, settings, server, listener))
    if settings.ray_address is None:
        print(
            f"the API has ended; the Ray head and its runs go on. End them: xpo-ray serve --storage {settings.storage} "
            "--stop-ray",
            flush=True,
        )


def stop_ray(config: Path | None, flags: dict[str, Any]) -> bool:
    """End the head that a service with this storage started; says whether there was one."""
    settings = read_settings(config, flags)
    stopped = Head(settings.storage.absolute()).stop()
    print("the Ray head has ended" if stopped else f"no Ray head of {settings.storage} is known", flush=True)
    return stopped


async def _served(app: FastAPI, settings: Settings, server: Server, listener: socket.socket) -> None:
    """Open the database, then listen. The app's lifespan stands here and not in uvicorn, which would print a traceback."""
    life = app.router.lifespan_context(app)
    try:
        await life.__aenter__()
    except (SQLAlchemyError, OSError) as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        remedy = "start it, or mend --database-url"
        raise UserError(f"database {shown_url(settings.database)}: {said}; {remedy}") from error
    try:
        threading.Thread(target=_tell, args=(settings,), daemon=True).start()
        await server.serve([listener])
    finally:
        await life.__aexit__(None, None, None)


def _uvicorn(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )


def _bound(settings: Settings) -> socket.socket:
    """The port, taken before anything else is done; nobody can connect until the service listens. Raises UserError."""
    with ExitStack() as opened:
        try:
            found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            made = opened.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
        except OSError as error:
            where = f"--host {settings.host} --port {settings.port}"
            remedy = "end what listens there, or name another port, or an address of this machine"
            raise UserError(f"{where}: {error.strerror or error}; {remedy}") from error
        opened.pop_all()
    return made


def _first_key(secret: str, file: Path | None) -> None:
    """The only time that this key is shown."""
    if file is None:
        print(f"admin key (shown once, keep it): {secret}", flush=True)
        return
    with os.fdopen(os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as kept:
        kept.write(secret + "\n")
    print(f"admin key: in {file}", flush=True)


def _tell(settings: Settings) -> None:
    """Where everything is, once it answers."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    at = f"[{host}]" if ":" in host else host
    url = settings.public_url or f"http://{at}:{settings.port}"
    while True:
        try:
            if httpx.get(f"http://{at}:{settings.port}/livez", timeout=5, trust_env=False).status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    print(f"API    {url}/v1   (documents at {url}/docs)\npages  {url}/", flush=True)
    print(f"Ray    {settings.dashboard_url or _dashboard(settings)}", flush=True)
    print(f"ready  {url}", flush=True)


def _dashboard(settings: Settings, within_s: float = 60.0) -> str:
    """Address of the Ray dashboard, when it is up."""
    if settings.ray_address is not None:
        return settings.ray_address
    head, deadline = Head(settings.storage.absolute()), time.monotonic() + within_s
    while not head.healthy() and time.monotonic() < deadline:
        time.sleep(0.2)
    record = head.record()
    return "does not answer yet" if record is None else f"{record.address}   (its token: {head.token_file})"
