"""The courier against a small service of its own: batches in order, an absent service, refusals, and the last word."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.patience import Deadline
from xpo_ray.courier.connection import Connection
from xpo_ray.courier.heartbeat import HeartbeatThread
from xpo_ray.courier.shipper import JournalFile, Shipper
from xpo_ray.errors import Superseded
from xpo_ray.orders import Orders


class Peer:
    """Answers as the service would, from a function that the test sets: (verb, body) → (status, body)."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.answer: Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]] = lambda *_: (503, {})

    def journal(self, verb: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Takes every batch."""
        return 200, {"shipped": body["first"] + len(body["records"]) - 1} if verb == "journal" else {"wanted": "run"}


@pytest.fixture
def peer() -> Iterator[Peer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            verb = self.path.rsplit("/", 1)[1]
            made.heard.append((verb, body))
            status, answer = made.answer(verb, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Peer(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connection(peer: Peer) -> Iterator[Connection]:
    made = Connection(peer.url, "run_1", 2)
    made.token = "attempt_token"
    yield made
    made.close()


def write(path: Path, *numbers: int, end: str = "\n") -> Path:
    with path.open("a") as file:
        file.write(
            "".join(json.dumps({"seq": n}) + "\n" for n in numbers[:-1]) + json.dumps({"seq": numbers[-1]}) + end
        )
    return path


def numbers(peer: Peer) -> list[tuple[int, list[int]]]:
    return [(b["attempt"], [r["seq"] for r in b["records"]]) for verb, b in peer.heard if verb == "journal"]


def until(true: Callable[[], bool]) -> None:
    deadline = Deadline(10)
    while not true():
        assert deadline.ahead
        time.sleep(0.02)


def test_what_earlier_attempts_did_not_ship_goes_first(peer: Peer, connection: Connection, tmp_path: Path) -> None:
    peer.answer = peer.journal
    earlier, own = write(tmp_path / "1", 1, 2, 3), write(tmp_path / "2", 1)
    shipper = Shipper(connection, Orders(), [JournalFile(earlier, 1, 2), JournalFile(own, 2, 0)])
    shipper.start()
    write(own, 2, 3)
    assert shipper.finish(10)
    assert numbers(peer)[0] == (1, [3])
    assert [n for attempt, batch in numbers(peer) for n in batch if attempt == 2] == [1, 2, 3]


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "journal", 1, 2, end="")
    journal = JournalFile(path, 1, 0)
    first = journal.batch()
    assert first is not None
    assert [r["seq"] for r in first.records] == [1]
    journal.shipped = 1
    assert journal.batch() is None
    path.open("a").close()
    write_end = path.open("a")
    write_end.write("\n")
    write_end.close()
    second = journal.batch()
    assert second is not None
    assert (second.first, second.records) == (2, [{"seq": 2}])


def test_an_absent_service_is_waited_for_and_hears_everything_once(
    peer: Peer, connection: Connection, tmp_path: Path
) -> None:
    own = write(tmp_path / "2", 1, 2)
    shipper = Shipper(connection, Orders(), [JournalFile(own, 2, 0)])
    shipper.start()
    until(lambda: len(peer.heard) >= 2)
    absent = len(peer.heard)
    peer.answer = peer.journal
    assert shipper.finish(20)
    assert numbers(peer)[absent:] == [(2, [1, 2])] or numbers(peer)[-1] == (2, [1, 2])


def test_a_superseded_attempt_is_told_by_its_shipper(peer: Peer, connection: Connection, tmp_path: Path) -> None:
    problem = {"title": "Conflict", "status": 409, "detail": "over", "code": "attempt_superseded", "request_id": "r"}
    peer.answer = lambda *_: (409, problem)
    orders = Orders()
    shipper = Shipper(connection, orders, [JournalFile(write(tmp_path / "2", 1), 2, 0)])
    shipper.start()
    assert not shipper.finish(10)
    assert orders.wanted == "superseded"


def test_a_heartbeat_brings_orders_through_an_absence(peer: Peer, connection: Connection) -> None:
    orders = Orders()
    beating = HeartbeatThread(connection, orders, 0.1)
    beating.start()
    until(lambda: len(peer.heard) >= 1)
    peer.answer = lambda *_: (200, {"wanted": "pause"})
    until(lambda: orders.wanted == "pause")
    peer.answer = lambda *_: (200, {"wanted": "run"})
    beating.stop()
    assert orders.wanted == "pause"


def test_a_refused_heartbeat_supersedes(peer: Peer, connection: Connection) -> None:
    peer.answer = lambda *_: (401, {"title": "x"})
    orders = Orders()
    HeartbeatThread(connection, orders, 0.1).start()
    until(lambda: orders.wanted == "superseded")
    assert isinstance(orders.stopped(), Superseded)
