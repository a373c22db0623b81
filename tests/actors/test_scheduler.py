"""Reads and commits of the scheduler without actors: who waits for a commit may be stopped, the commit goes on."""

import asyncio
from typing import Any

from xpo_ray.actors.scheduler import Scheduler
from xpo_ray.schedule import Slice

SLICE = Slice(1, 0, (0,))


def scheduler() -> Scheduler:
    """Of which only commits are under way; nothing else is reached here."""
    nothing: Any = None
    return Scheduler(*[nothing] * 7, in_flight=2, ahead=nothing, quiet=nothing)


def test_who_waits_for_a_commit_may_be_stopped_and_the_commit_goes_on() -> None:
    async def scene() -> tuple[bool, bool]:
        under_way, room = scheduler(), asyncio.Event()
        under_way._commits[1, 0] = commit = asyncio.create_task(room.wait())  # type: ignore[assignment]
        waiting = asyncio.create_task(under_way.committed([SLICE]))
        reading = under_way._reading(1, 0)
        await asyncio.sleep(0)
        waiting.cancel()
        under_way.stop()
        await asyncio.gather(waiting, reading, return_exceptions=True)
        room.set()
        await under_way.settle()
        return waiting.cancelled() and reading.cancelled(), not commit.cancelled() and bool(commit.result())

    assert asyncio.run(scene()) == (True, True)
