"""Server-sent events of a run. The stream reads pages from the database, so that a slow client costs nothing in memory.

It wakes by `services.changes` and looks by itself every two seconds; it ends after the event that made the run final.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from xpo_ray.api.database.tables import Run
from xpo_ray.api.events.pages import events_after
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.run_states import FINAL
from xpo_ray.wire.events import EventView

LOOK_EVERY_S = 2.0
HEARTBEAT_S = 15.0
PAGE = 200


class OpenStreams:
    """Streams by key, counted on the event loop alone."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, key_id: str, most: int) -> None:
        """Raises Refusal where the key has as many as it may."""
        if self._open[key_id] >= most:
            detail = f"this key has {most} event streams open, the most that it may; close one"
            raise Refusal(429, "too_many_streams", detail, headers={"Retry-After": "5"})

    @contextmanager
    def opened(self, key_id: str) -> Iterator[None]:
        self._open[key_id] += 1
        try:
            yield
        finally:
            self._open[key_id] -= 1
            if not self._open[key_id]:
                del self._open[key_id]


async def stream(
    services: Services,
    streams: OpenStreams,
    key_id: str,
    run_id: str,
    after: int,
    heartbeat_s: float = HEARTBEAT_S,
) -> AsyncIterator[str]:
    """Events behind `after`, then new ones as they come; a comment where there was nothing to say for `heartbeat_s`."""
    spoken = time.monotonic()
    with streams.opened(key_id), services.changes.watching(run_id) as news:
        yield ": the events of this run\n\n"
        while not services.changes.closing:
            page, last, final = await asyncio.to_thread(_read, services, run_id, after)
            for event in page:
                yield framed(event)
                after, spoken = event.seq, time.monotonic()
            if final and after >= last:
                return
            if page:
                continue
            if time.monotonic() - spoken >= heartbeat_s:
                yield ": alive\n\n"
                spoken = time.monotonic()
            await news.within(min(LOOK_EVERY_S, heartbeat_s))


def framed(event: EventView) -> str:
    """An event as it goes over the wire."""
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n"


def _read(services: Services, run_id: str, after: int) -> tuple[list[EventView], int, bool]:
    """The next page, the last `seq`, and whether nothing will follow it; a run that was deleted is at its end."""
    with services.database.read() as session:
        run = session.get(Run, run_id)
        if run is None or run.deleting:
            return [], after, True
        return events_after(session, run_id, after, PAGE), run.event_seq, run.status in FINAL
