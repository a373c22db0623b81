"""The service on a port of its own, in a thread of the test, so that a browser can visit it; it can be ended and begun anew."""

import socket
import threading
import time
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI


class Served:
    """An app that answers on a port. `stop` and `start` end and begin it, as a restart of the service would."""

    def __init__(self, make_app: Callable[[], FastAPI]) -> None:
        self._make_app = make_app
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = int(found.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = {"host": "127.0.0.1", "port": self.port, "log_level": "error", "ws": "none"}
        config = uvicorn.Config(self._make_app(), timeout_graceful_shutdown=1, **options)  # type: ignore[arg-type]
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the service did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
