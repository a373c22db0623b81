"""Callers of api_load.py: HTTP/1.1 on keep-alive connections by hand, so that asking takes less than answering.

A caller sends the next request when the last one is answered; `pressed` lets some of them do so for a time or a count.
"""

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Served(Protocol):
    """The service under load."""

    @property
    def port(self) -> int: ...

    @property
    def key(self) -> str: ...

    def cpu_s(self) -> float: ...


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, port: int) -> "Caller":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of an answer with a Content-Length."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _header(head, b"content-length")
        body = await self._reader.readexactly(int(length)) if length else b""
        return int(head[9:12]), body

    def close(self) -> None:
        self._writer.close()


@dataclass
class Load:
    """What came of a load."""

    seconds: list[float] = field(default_factory=list)
    """Of each answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    """Of the resources that were made."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the API process."""
    last: bytes = b""

    @property
    def per_second(self) -> float:
        return len(self.seconds) / self.wall_s

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_s / len(self.seconds)

    def ms(self, percent: int) -> float:
        """The time within which so many percent were answered."""
        return 1000 * sorted(self.seconds)[min(len(self.seconds) - 1, len(self.seconds) * percent // 100)]


async def pressed(
    served: Served,
    callers: int,
    request: Callable[[int], bytes],
    *,
    seconds: float = float("inf"),
    count: int | None = None,
) -> Load:
    """So many callers at once, for so many seconds or requests; `request` gives the n-th."""
    load, sent = Load(), 0
    connections = [await Caller.connected(served.port) for _ in range(callers)]

    async def call(caller: Caller) -> None:
        nonlocal sent
        while time.perf_counter() < began + seconds and (count is None or sent < count):
            sent += 1
            at = time.perf_counter()
            status, load.last = await caller.ask(request(sent))
            load.seconds.append(time.perf_counter() - at)
            load.statuses[status] += 1
            if status == 201:
                load.ids.append(json.loads(load.last)["id"])

    began, cpu = time.perf_counter(), served.cpu_s()
    await asyncio.gather(*(call(each) for each in connections))
    load.wall_s, load.cpu_s = time.perf_counter() - began, served.cpu_s() - cpu
    for each in connections:
        each.close()
    if any(status >= 300 for status in load.statuses):
        raise SystemExit(f"the service refused: {dict(load.statuses)}; the last answer: {load.last[-300:]!r}")
    return load


def get(served: Served, path: str, **headers: str) -> bytes:
    """A GET."""
    return _request(served, "GET", path, b"", headers)


def post(served: Served, path: str, body: bytes = b"", *, once: bool = False) -> bytes:
    """A POST; with `once`, under a new Idempotency-Key."""
    return _request(served, "POST", path, body, {"Idempotency-Key": secrets.token_hex(12)} if once else {})


def patch(served: Served, path: str, body: bytes) -> bytes:
    """A PATCH, whatever the version."""
    return _request(served, "PATCH", path, body, {"If-Match": "*"})


def _request(served: Served, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{served.port}", f"Authorization: Bearer {served.key}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method != "GET":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""
