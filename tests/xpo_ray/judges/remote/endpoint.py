"""A real HTTP server that judges, or misbehaves as it is told."""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What is answered; `text` is sent as it is."""

    status: int = 200
    text: str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0
    """Between two bytes of the body."""
    cut: bool = False
    """Close the connection without an answer."""


def judged(body: dict[str, Any]) -> Reply:
    """The contract's answer: each response has its length as its score."""
    told = [{"id": c["id"], "scores": [float(len(r["text"])) for r in c["responses"]]} for c in body["comparisons"]]
    return Reply(text=json.dumps({"version": 1, "judgements": told}))


Behaviour = Callable[[dict[str, Any]], Reply]


@dataclass
class Endpoint:
    """What arrived, and how it is answered: first the replies that wait, then by the behaviour."""

    port: int
    behaviour: Behaviour = judged
    waiting: deque[Reply] = field(default_factory=deque)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    """When requests came, on the monotonic clock."""
    most_at_once: int = 0
    connections: set[Any] = field(default_factory=set)
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/judge"

    def reply(self, body: dict[str, Any], headers: dict[str, str], client: Any) -> Reply:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.at.append(time.monotonic())
            self.connections.add(client)
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            chosen = self.waiting.popleft() if self.waiting else None
        made = chosen or self.behaviour(body)
        time.sleep(made.delay_s)
        with self._lock:
            self._under_way -= 1
        return made


@contextmanager
def serving(behaviour: Behaviour = judged, port: int = 0) -> Iterator[Endpoint]:
    """An endpoint that listens, on a free port where none is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {k.lower(): v for k, v in self.headers.items()}
            reply = endpoint.reply(body, headers, self.client_address)
            if reply.cut:
                self.close_connection = True
                return
            text = reply.text if isinstance(reply.text, bytes) else reply.text.encode()
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self._send(text, reply.drip_s)

        def _send(self, text: bytes, drip_s: float) -> None:
            try:
                if not drip_s:
                    self.wfile.write(text)
                    return
                for i in range(len(text)):
                    self.wfile.write(text[i : i + 1])
                    time.sleep(drip_s)
            except OSError:  # who asked has gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Silence: tests cut connections."""

    server = Server(("127.0.0.1", port), Handler)
    endpoint = Endpoint(server.server_address[1], behaviour)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
