"""`xpo-ray serve`: the service in this process. SIGINT and SIGTERM end the API alone; the Ray head and its runs go on.

Prints where everything is, the first admin key once, and one ready line for programs: `ready http://127.0.0.1:8600`.
"""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from xpo_ray.api.app import create_app
from xpo_ray.api.cluster.head import Head
from xpo_ray.api.logs import configure
from xpo_ray.api.settings import Settings, load_settings

GRACE_S = 10


def serve(config: Path | None, admin_key_file: Path | None, flags: dict[str, Any]) -> None:
    """Serve until a signal comes."""
    settings = load_settings(config, **flags)
    configure(settings)
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings.storage.mkdir(parents=True, exist_ok=True)
    if not settings.port:
        raise SystemExit("--port 0 is not possible: drivers must find the API again after its restart; name a port")
    app = create_app(settings, on_first_key=lambda secret: _first_key(secret, admin_key_file))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GRACE_S,
            server_header=False,
        )
    )
    threading.Thread(target=_tell, args=(settings,), daemon=True).start()
    server.run()
    if settings.ray_address is None:
        print(
            f"the API has ended; the Ray head and its runs go on. End them: xpo-ray serve --storage {settings.storage} "
            "--stop-ray",
            flush=True,
        )


def stop_ray(config: Path | None, flags: dict[str, Any]) -> bool:
    """End the head that a service with this storage started; says whether there was one."""
    settings = load_settings(config, **flags)
    stopped = Head(settings.storage.absolute()).stop()
    print("the Ray head has ended" if stopped else f"no Ray head of {settings.storage} is known", flush=True)
    return stopped


def _first_key(secret: str, file: Path | None) -> None:
    """The only time that this key is shown."""
    if file is None:
        print(f"admin key (shown once, keep it): {secret}", flush=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as kept:
        kept.write(secret + "\n")
    print(f"admin key: in {file}", flush=True)


def _tell(settings: Settings) -> None:
    """Where everything is, once it answers."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = settings.public_url or f"http://{host}:{settings.port}"
    while True:
        try:
            if httpx.get(f"http://{host}:{settings.port}/livez", timeout=5, trust_env=False).status_code == 200:
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
