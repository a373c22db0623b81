"""A proxy that loses answers: it has a request executed, and cuts the connection before the answer goes back.

To the caller that is the worst case of a network: nobody can tell whether the effect happened.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR

import httpx

DROPPED = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True)
class Exchange:
    """A request that reached the service, and what became of its answer."""

    method: str
    path: str
    status: int
    cut: bool


@dataclass
class Cutter:
    """Stands between callers and a service."""

    port: int
    upstream: str
    cuts: Callable[[str, str], bool] = lambda _method, _path: False
    """Whether this answer is to be lost."""
    seen: list[Exchange] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, path_end: str, *, cut: bool | None = None) -> int:
        """Requests that were executed, of those paths; with `cut` those whose answer was lost, or was not."""
        return sum(e.path.endswith(path_end) and cut in (None, e.cut) for e in self.seen)

    def note(self, method: str, path: str, status: int) -> bool:
        """Write down an exchange; says whether its answer is to be lost."""
        with self._lock:
            cut = self.cuts(method, path)
            self.seen.append(Exchange(method, path, status, cut))
        return cut


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cutter: Cutter
    client: httpx.Client

    def do_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {n: v for n, v in self.headers.items() if n.lower() not in DROPPED}
        try:
            answer = self.client.request(
                self.command, self.cutter.upstream + self.path, headers=headers, content=body, timeout=90
            )
        except httpx.TransportError:  # the service is away
            return self._hang_up()
        if self.cutter.note(self.command, self.path, answer.status_code):
            return self._hang_up()
        self.send_response_only(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in DROPPED | {"content-encoding"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)
        return None

    do_GET = do_POST = do_PATCH = do_DELETE = do_any

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the exchanges are in `seen`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that went away is no error of the proxy."""


@contextmanager
def cutting(port: int, upstream: str) -> Iterator[Cutter]:
    """A proxy before a service, until the block ends."""
    cutter = Cutter(port, upstream)
    with httpx.Client(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        handler = type("Handler", (_Handler,), {"cutter": cutter, "client": client})
        server = _Server(("127.0.0.1", port), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield cutter
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)
