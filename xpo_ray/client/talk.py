"""One call as a conversation: requests out, replies in, waits between tries. Generators that do no I/O themselves.

The drivers in drivers.py send what is yielded; `Client` and `AsyncClient` differ in nothing but the driver.
"""

import random
import uuid
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import quote

from xpo_ray.client.faults import ServiceUnreachable, fault_of
from xpo_ray.errors import UserError

T = TypeVar("T")
Step = TypeVar("Step")
TRIES = 5
RETRIED = frozenset({429, 502, 503, 504})
LONGEST_WAIT_S = 60.0
Files = tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class Request:
    """One HTTP request; the path is relative to the service."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    form: Mapping[str, str] | None = None
    files: Files = ()


@dataclass(frozen=True)
class Reply:
    """An answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Broken:
    """The connection failed before a whole answer came; its effect is unknown."""

    reason: str
    url: str = "this URL"
    """Of the service."""


@dataclass(frozen=True)
class Wait:
    """Do nothing for so long."""

    seconds: float


Talk = Generator[Request | Wait, Reply | Broken | None, T]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, how its answer is read, and whether it may be sent again when nobody knows what became of it."""

    request: Request
    read: Callable[[Reply], T]
    repeatable: bool
    tries: int = TRIES
    lasting: frozenset[int] = frozenset()
    """Refusals that no other try of this call changes, although it may change them elsewhere."""

    def talk(self) -> Talk[T]:
        """Send until there is an answer. Raises ApiError, or ServiceUnreachable after the last try."""
        tries = 0
        while True:
            reply = yield self.request
            tries += 1
            assert reply is not None
            pause = pause_of(reply, tries) if self._may_help(reply, tries) else None
            if pause is None:
                return self._answer(reply, again=tries > 1)
            yield Wait(pause)

    def _may_help(self, reply: Reply | Broken, tries: int) -> bool:
        lasting = isinstance(reply, Reply) and reply.status in self.lasting
        return self.repeatable and tries < self.tries and not lasting

    def _answer(self, reply: Reply | Broken, *, again: bool) -> T:
        if isinstance(reply, Broken):
            raise unreachable(self.request, reply)
        if self.request.method == "DELETE" and reply.status == 404 and again:
            return self.read(reply)
        return self.read(accepted(reply))


def advance(talk: Generator[Step, Reply | Broken | None, None], answer: Reply | Broken | None) -> Step | None:
    """The next step of a talk that gives no answer of its own, None at its end."""
    try:
        return talk.send(answer)
    except StopIteration:
        return None


def accepted(reply: Reply) -> Reply:
    """The reply, where it is no refusal. Raises ApiError."""
    if reply.status >= 400:
        raise fault_of(reply.status, reply.body, reply.headers.get("x-request-id", "–"))
    return reply


def unreachable(request: Request, broken: Broken) -> ServiceUnreachable:
    """The error of a request without an answer."""
    unknown = (
        "" if request.method == "GET" else " Whether it had its effect is not known: look before you send it again."
    )
    return ServiceUnreachable(
        f"{request.method} {request.path} got no answer: {broken.reason}. Is the service running at {broken.url}?{unknown}"
    )


def pause_of(reply: Reply | Broken, tries: int, draw: Callable[[], float] = random.random) -> float | None:
    """Seconds before the next try, None where another try would not help: 0.5, 1, 2, … s with half of it drawn."""
    if isinstance(reply, Reply) and reply.status not in RETRIED:
        return None
    backoff = min(0.5 * 2.0 ** (tries - 1), 8.0) * (0.5 + 0.5 * draw())
    asked = reply.headers.get("retry-after", "") if isinstance(reply, Reply) else ""
    return min(max(backoff, float(asked)), LONGEST_WAIT_S) if asked.isdigit() else backoff


def part(name: str) -> str:
    """An id as one part of a path, whatever stands in it. Raises UserError where it is none."""
    if name.strip(".") == "":
        raise UserError(f"an id is needed, got {name!r}")
    return quote(name, safe="")


def once() -> dict[str, str]:
    """The header that makes a request that creates repeatable."""
    return {"Idempotency-Key": uuid.uuid4().hex}
