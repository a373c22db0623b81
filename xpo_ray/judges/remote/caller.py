"""Calls of one HTTP endpoint: tries, pauses, circuit breaker, bounded concurrency, bounded answers. What answers mean is
their readers' business.

A judge makes a Caller and calls `each` from its own thread; the calls run on an event loop in a thread of the Caller's, over
HTTP/1.1 connections that stay open. Redirects, compressed answers and the environment's proxies are never used, and the
token never stands in a reason.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import urlsplit

import certifi
import httpx

from xpo_ray import __version__
from xpo_ray.judges.remote import remedies
from xpo_ray.judges.remote.breaker import Breaker
from xpo_ray.judges.remote.outcomes import Answered, Failed, Refused, Request, Unreadable
from xpo_ray.judges.remote.pauses import pause_s, retry_after_s
from xpo_ray.judges.remote.token import token_of
from xpo_ray.spec.remote_judge import RemoteJudge

T = TypeVar("T")
MOST_ANSWER_BYTES = 8 * 2**20
SHOWN = 200
"""Characters of an answer in a reason."""
DIVISIBLE = frozenset({400, 413, 422})
"""A batch that is refused so may hold one prompt that is to blame."""


@dataclass(frozen=True)
class Again:
    """A try that failed, and why; the endpoint may have asked for a pause."""

    reason: str
    unreachable: bool
    asked_s: float | None = None


@dataclass(frozen=True)
class Received:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Unusable(Exception):
    """An answer that is not even read: too long, or compressed."""


class Caller:
    """The calls of one judge in one process. Must be closed. Raises JudgeError where the token is not there."""

    def __init__(self, spec: RemoteJudge, url: str) -> None:
        self._counts: Counter[str] = Counter()
        self._spec, self._url = spec, url
        self._token = token_of(spec)
        self._breaker = Breaker(spec.breaker_failures, spec.cool_down_s)
        self._last_lost = ""
        self._jitter = random.Random()
        self._places = asyncio.Semaphore(spec.concurrency)
        self._client = httpx.AsyncClient(
            timeout=None,  # the whole exchange has one time limit
            trust_env=False,
            follow_redirects=False,
            verify=_certificates(),
            limits=httpx.Limits(max_connections=spec.concurrency, max_keepalive_connections=spec.concurrency),
            headers=_headers(self._token),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge-calls", daemon=True)
        self._thread.start()

    @property
    def down(self) -> bool:
        """Whether the endpoint was out of reach when it was tried last."""
        return self._breaker.open

    def each(self, requests: Sequence[Request[T]]) -> list[Answered[T] | Failed]:
        """POST them; one outcome for each, in order."""
        calls = asyncio.run_coroutine_threadsafe(self._each(requests), self._loop)
        try:
            return calls.result()
        except BaseException:
            calls.cancel()
            raise

    def close(self) -> None:
        """Close the connections and end the thread. May be called again."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.aclose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def take_counts(self) -> dict[str, float]:
        """Requests that were sent, and those of them that were further tries, since the last time it was asked."""
        taken, self._counts = self._counts, Counter()
        return {name: float(taken[name]) for name in ("judge_requests", "judge_retries")}

    async def _each(self, requests: Sequence[Request[T]]) -> list[Answered[T] | Failed]:
        return await asyncio.gather(*map(self._called, requests))

    async def _called(self, request: Request[T]) -> Answered[T] | Failed:
        """All tries of one request."""
        content = json.dumps(request.body).encode()
        last: Again | None = None
        for number in range(1, self._spec.retries + 2):
            if last is not None:
                await asyncio.sleep(max(pause_s(number - 1, self._jitter), last.asked_s or 0.0))
            async with self._places:
                if not await self._permitted():
                    return self._given_up(number - 1)
                self._counts.update(judge_requests=1, judge_retries=int(number > 1))
                seen = await self._tried(content, request.read, number)
            if not isinstance(seen, Again):
                return seen
            last = seen
            if (last.asked_s or 0.0) > self._spec.patience_s:
                break
        assert last is not None
        return self._failed(last.reason, number, unreachable=last.unreachable, divisible=True)

    async def _permitted(self) -> bool:
        """Wait until a request may be sent; False where the endpoint has been out of reach for too long."""
        while (wait_s := self._breaker.wait_s(now := time.monotonic())) > 0:
            left_s = self._spec.patience_s - self._breaker.down_s(now)
            if self._breaker.open and left_s <= 0 and not self._breaker.probing:
                return False
            await asyncio.sleep(min(wait_s, max(left_s, 0.01)) if self._breaker.open else wait_s)
        return True

    def _given_up(self, tries: int) -> Failed:
        waited = f"out of reach for {self._breaker.down_s(time.monotonic()):.0f} s"
        return self._failed(f"{self._last_lost} ({waited})", tries, unreachable=True)

    async def _tried(self, content: bytes, read: Callable[[bytes], T], number: int) -> Answered[T] | Failed | Again:
        probe = self._breaker.open
        try:
            async with asyncio.timeout(self._spec.timeout_s):
                received = await self._exchanged(content)
        except TimeoutError:
            within = f"gave no whole answer within judge.timeout_s {self._spec.timeout_s:g}"
            return self._lost(f"{self.shown_url} {within}", probe)
        except httpx.TransportError as error:
            said = f"{type(error).__name__}: {error}{remedies.of_error(error)}"
            return self._lost(f"{self.shown_url}: {said}", probe)
        except Unusable as error:
            self._breaker.answered()
            return self._failed(str(error), number, divisible=True)
        except asyncio.CancelledError:
            if probe:
                self._breaker.abandoned()
            raise
        return self._understood(received, read, number, probe)

    def _lost(self, reason: str, probe: bool, asked_s: float | None = None) -> Again:
        now = time.monotonic()
        self._breaker.failed(now, probe=probe)
        self._last_lost = reason
        if asked_s is not None and asked_s <= self._spec.patience_s:
            self._breaker.hold(now, asked_s)
        return Again(reason, unreachable=True, asked_s=asked_s)

    async def _exchanged(self, content: bytes) -> Received:
        async with self._client.stream("POST", self._url, content=content) as answer:
            try:
                body = await self._body(answer)
            except Unusable:
                if answer.is_success:
                    raise
                body = b""  # the status says enough
            return Received(answer.status_code, answer.headers, self._masked(body))

    async def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        if (encoding := answer.headers.get("content-encoding", "identity").lower()) != "identity":
            raise Unusable(f"{self.shown_url} sent its answer as {encoding[:40]!r}, but identity was asked for")
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MOST_ANSWER_BYTES:
                most = f"{MOST_ANSWER_BYTES >> 20} MiB, the most that is read of an answer"
                raise Unusable(f"{self.shown_url} sent more than {most}")
        return bytes(body)

    def _understood(
        self, received: Received, read: Callable[[bytes], T], number: int, probe: bool
    ) -> Answered[T] | Failed | Again:
        status = received.status
        if status >= 500:
            return self._lost(self._said(received), probe, self._asked_s(received))
        if status == 429:
            asked_s = self._asked_s(received)
            patient = asked_s is not None and asked_s <= self._spec.patience_s
            self._breaker.throttled(time.monotonic(), (asked_s or 0.0) if patient else 0.0)
            return Again(self._said(received), unreachable=True, asked_s=asked_s)
        self._breaker.answered()
        if 300 <= status < 400:
            where = self._masked(received.headers.get("location", "nowhere").encode()).decode()[:SHOWN]
            return self._failed(f"{self._said(received)}; it points to {where!r}, redirects are not followed", number)
        if status in remedies.NOT_LET_IN:
            return self._failed(self._said(received), number, unreachable=True)
        if not 200 <= status < 300:
            return self._failed(self._said(received), number, divisible=status in DIVISIBLE)
        try:
            return Answered(read(received.body), number)
        except Unreadable as error:
            return Again(f"{error}; it answered {_excerpt(received.body)}", unreachable=False)
        except Refused as error:
            return self._failed(str(error), number)

    @staticmethod
    def _asked_s(received: Received) -> float | None:
        return retry_after_s(received.headers.get("retry-after"), datetime.now(UTC))

    def _said(self, received: Received) -> str:
        told = f"{self.shown_url} answered {received.status}: {_excerpt(received.body)}"
        pause = remedies.of_pause(self._spec, self._asked_s(received))
        return f"{told}{remedies.of_status(self._spec, received.status)}{pause}"

    def _failed(self, reason: str, tries: int, *, unreachable: bool = False, divisible: bool = False) -> Failed:
        plain = reason.encode("utf-8", "backslashreplace")  # an answer may spell half a character
        return Failed(self._masked(plain).decode(), tries, unreachable, divisible)

    def _masked(self, text: bytes) -> bytes:
        """Without the token, which an endpoint may send back."""
        return text if self._token is None else text.replace(self._token.encode(), b"***")

    @property
    def shown_url(self) -> str:
        """Without the query, which may hold a secret."""
        return urlsplit(self._url)._replace(query="").geturl()


def _headers(token: str | None) -> dict[str, str]:
    bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
    known = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    return known | bearer | {"User-Agent": f"xpo-ray/{__version__}"}


def _certificates() -> ssl.SSLContext:
    """Those of the system, with what SSL_CERT_FILE names, and those that come with httpx."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context


def _excerpt(body: bytes) -> str:
    text = body[: 16 * SHOWN].decode("utf-8", "replace")
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
