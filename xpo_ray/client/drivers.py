"""The two drivers over httpx. They send what a talk yields and hand back what came; every decision lies in the talks."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from xpo_ray.client.downloads import Download, Fetch, fetch
from xpo_ray.client.following import Listen, follow, wait
from xpo_ray.client.login_file import current_login
from xpo_ray.client.streams import EventTail
from xpo_ray.client.talk import Broken, Call, Reply, Request, Talk, Wait, advance
from xpo_ray.run_states import FINAL, Status
from xpo_ray.wire.artifacts import FileView
from xpo_ray.wire.base import Page
from xpo_ray.wire.events import EventView
from xpo_ray.wire.runs import RunView

T = TypeVar("T")
SILENCE_S = 45.0
"""A stream that says nothing for so long is dead: it speaks each 15 s."""

UPLOAD_S = 900.0
"""The service reads all rows of an upload before it answers."""


class Client:
    """Calls the service and waits for the answer."""

    def __init__(self, url: str | None = None, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._http = httpx.Client(**_options(url, key, timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def url(self) -> str:
        """Of the service."""
        return str(self._http.base_url).rstrip("/")

    def do(self, call: Call[T]) -> T:
        """Make a call. Raises ApiError, ServiceUnreachable."""
        return self._hold(call.talk())

    def wait(self, run_id: str, until: Collection[Status] = FINAL) -> RunView:
        """The run when it has one of the statuses, or is final."""
        return self._hold(wait(run_id, until))

    def each(self, ask: Callable[[str | None], Call[Page[T]]]) -> Iterator[T]:
        """All items of a list: client.each(lambda after: calls.list_runs(after))."""
        after = None
        while True:
            page = self.do(ask(after))
            yield from page.items
            if (after := page.next) is None:
                return

    def stream(self, run_id: str, after: int = 0) -> Iterator[EventView]:
        """Events of a run to its end, each once and in order, however often the connection drops."""
        talk = follow(EventTail(run_id, after))
        step = advance(talk, None)
        while step is not None:
            answer: Reply | Broken | None = None
            if isinstance(step, EventView):
                yield step
            elif isinstance(step, Listen):
                for heard in self._listen(step):
                    if isinstance(heard, EventView):
                        yield heard
                    else:
                        answer = heard
            else:
                answer = self._step(step)
            step = advance(talk, answer)

    def download(self, run_id: str, checkpoint_id: str, file: FileView, folder: Path) -> Path:
        """A file of a checkpoint, checked; one that is in the folder already is left as it is."""
        download = Download(run_id, checkpoint_id, file, folder)
        talk = fetch(download)
        step = advance(talk, None)
        while step is not None:
            step = advance(talk, self._fetch(step) if isinstance(step, Fetch) else self._step(step))
        return download.target

    def _hold(self, talk: Talk[T]) -> T:
        step = next(talk)
        while True:
            try:
                step = talk.send(self._step(step))
            except StopIteration as end:
                answer: T = end.value
                return answer

    def _step(self, step: Request | Wait) -> Reply | Broken | None:
        if isinstance(step, Wait):
            time.sleep(step.seconds)
            return None
        try:
            with ExitStack() as opened:
                return _reply(self._http.request(**_arguments(step, opened)))
        except httpx.TransportError as error:
            return _broken(error)

    def _listen(self, step: Listen) -> Iterator[EventView | Reply | Broken]:
        """New events, at last the reply."""
        try:
            with self._http.stream(**_listening(step.request)) as response:
                if response.status_code != 200:
                    response.read()
                    yield _reply(response)
                    return
                for line in response.iter_lines():
                    if (event := step.tail.feed(line)) is not None:
                        yield event
                        if step.tail.ended:
                            break
                yield _head(response)
        except httpx.TransportError as error:
            yield _broken(error)

    def _fetch(self, step: Fetch) -> Reply | Broken:
        try:
            with self._http.stream(**_plain(step.request)) as response:
                if response.status_code not in (200, 206):
                    response.read()
                    return _reply(response)
                with step.download.part_file(response.status_code) as part:
                    for piece in response.iter_bytes():
                        part.write(piece)
                return _head(response)
        except httpx.TransportError as error:
            return _broken(error)


class AsyncClient:
    """The same for asyncio."""

    def __init__(self, url: str | None = None, key: str | None = None, timeout_s: float = 30.0) -> None:
        self._http = httpx.AsyncClient(**_options(url, key, timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def do(self, call: Call[T]) -> T:
        """Make a call. Raises ApiError, ServiceUnreachable."""
        return await self._hold(call.talk())

    async def wait(self, run_id: str, until: Collection[Status] = FINAL) -> RunView:
        """The run when it has one of the statuses, or is final."""
        return await self._hold(wait(run_id, until))

    async def each(self, ask: Callable[[str | None], Call[Page[T]]]) -> AsyncIterator[T]:
        """All items of a list."""
        after = None
        while True:
            page = await self.do(ask(after))
            for item in page.items:
                yield item
            if (after := page.next) is None:
                return

    async def stream(self, run_id: str, after: int = 0) -> AsyncIterator[EventView]:
        """Events of a run to its end, each once and in order, however often the connection drops."""
        talk = follow(EventTail(run_id, after))
        step = advance(talk, None)
        while step is not None:
            answer: Reply | Broken | None = None
            if isinstance(step, EventView):
                yield step
            elif isinstance(step, Listen):
                async for heard in self._listen(step):
                    if isinstance(heard, EventView):
                        yield heard
                    else:
                        answer = heard
            else:
                answer = await self._step(step)
            step = advance(talk, answer)

    async def download(self, run_id: str, checkpoint_id: str, file: FileView, folder: Path) -> Path:
        """A file of a checkpoint, checked; one that is in the folder already is left as it is."""
        download = Download(run_id, checkpoint_id, file, folder)
        talk = fetch(download)
        step = await asyncio.to_thread(advance, talk, None)  # reads files
        while step is not None:
            answer = await (self._fetch(step) if isinstance(step, Fetch) else self._step(step))
            step = await asyncio.to_thread(advance, talk, answer)
        return download.target

    async def _hold(self, talk: Talk[T]) -> T:
        step = next(talk)
        while True:
            try:
                step = talk.send(await self._step(step))
            except StopIteration as end:
                answer: T = end.value
                return answer

    async def _step(self, step: Request | Wait) -> Reply | Broken | None:
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        try:
            with ExitStack() as opened:
                return _reply(await self._http.request(**_arguments(step, opened)))
        except httpx.TransportError as error:
            return _broken(error)

    async def _listen(self, step: Listen) -> AsyncIterator[EventView | Reply | Broken]:
        try:
            async with self._http.stream(**_listening(step.request)) as response:
                if response.status_code != 200:
                    await response.aread()
                    yield _reply(response)
                    return
                async for line in response.aiter_lines():
                    if (event := step.tail.feed(line)) is not None:
                        yield event
                        if step.tail.ended:
                            break
                yield _head(response)
        except httpx.TransportError as error:
            yield _broken(error)

    async def _fetch(self, step: Fetch) -> Reply | Broken:
        try:
            async with self._http.stream(**_plain(step.request)) as response:
                if response.status_code not in (200, 206):
                    await response.aread()
                    return _reply(response)
                with step.download.part_file(response.status_code) as part:
                    async for piece in response.aiter_bytes():
                        part.write(piece)
                return _head(response)
        except httpx.TransportError as error:
            return _broken(error)


def _options(url: str | None, key: str | None, timeout_s: float) -> dict[str, Any]:
    login = current_login(url, key)
    headers = {"Authorization": f"Bearer {login.key}"} if login.key else {}
    return {"base_url": login.url, "headers": headers, "timeout": timeout_s}


def _arguments(request: Request, opened: ExitStack) -> dict[str, Any]:
    files = [(name, (path.name, opened.enter_context(path.open("rb")))) for name, path in request.files]
    more = {"timeout": httpx.Timeout(30.0, read=UPLOAD_S)} if files else {}
    return {**_plain(request), "content": request.body, "data": request.form, "files": files or None, **more}


def _plain(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.path,
        "params": list(request.query),
        "headers": dict(request.headers),
    }


def _listening(request: Request) -> dict[str, Any]:
    return {**_plain(request), "timeout": httpx.Timeout(10.0, read=SILENCE_S)}


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, _headers(response), response.content)


def _head(response: httpx.Response) -> Reply:
    return Reply(response.status_code, _headers(response), b"")


def _headers(response: httpx.Response) -> dict[str, str]:
    return {k.lower(): v for k, v in response.headers.items()}


def _broken(error: httpx.TransportError) -> Broken:
    return Broken(
        f"{type(error).__name__}: {error}".removesuffix(": "), str(error.request.url.copy_with(raw_path=b"/"))
    )
