"""Wakes those who wait for news of a run: event streams, long heartbeats, the reconciler. Within this process only.

News is a hint, never a message: who wakes looks into the database, and whoever waits looks there now and then anyway, because
another API process may have written.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ANY = "*"


class News:
    """What one waiter has not heard yet."""

    def __init__(self) -> None:
        self._came = asyncio.Event()

    def come(self) -> None:
        self._came.set()

    async def within(self, timeout_s: float) -> bool:
        """Wait for news that came since the last time; False after the time limit."""
        try:
            await asyncio.wait_for(self._came.wait(), timeout_s)
        except TimeoutError:
            return False
        self._came.clear()
        return True


class Changes:
    """Waiters by topic: a run's id, or ANY. Told from any thread, waited for on the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[News]] = defaultdict(set)
        self.closing = False
        """The service ends: streams stop."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: list[Callable[[], None]] = []

    def listen(self, wake: Callable[[], None]) -> None:
        """Call this at any news that may call for a deed, from the thread that tells of it: a background thread's `wake`, which
        returns at once."""
        self._listeners.append(wake)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop on which the waiters wait."""
        self._loop = loop

    def tell(self, topic: str, *, progress: bool = False) -> None:
        """There is news; returns at once, from any thread. Mere progress is for those who watch: nobody has to do anything."""
        for wake in () if progress else self._listeners:
            wake()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, topic)

    def close(self) -> None:
        """Let everybody go: the service ends."""
        self.closing = True
        for waiters in list(self._waiting.values()):
            for news in waiters:
                news.come()

    @contextmanager
    def watching(self, topic: str) -> Iterator["News"]:
        """News of a topic from now on. Whoever looks into the database watches first: what happens during the look is kept."""
        news = News()
        self._waiting[topic].add(news)
        if self.closing:
            news.come()
        try:
            yield news
        finally:
            self._waiting[topic].discard(news)
            if not self._waiting[topic]:
                del self._waiting[topic]

    def _wake(self, topic: str) -> None:
        for each in {topic, ANY}:
            for news in self._waiting.get(each, ()):
                news.come()
