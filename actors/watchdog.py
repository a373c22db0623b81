"""Deadlines of actor calls: an actor that does not answer in time is taken for dead, whether it is stopped, stuck or cut off.

Pools and the trainer's seat await their actors' answers here and nowhere else. The watchdog ends the process; its caller
replaces it, as after any death. It never calls a method a second time.
"""

import asyncio
import concurrent.futures
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from xpo_ray.judges.python import START_TIMEOUT_S

AT_FIRST = 6.0
"""A new process loads its model, and a method that was never measured may be slow: they get so many times the floor."""
TIMES_SLOWEST = 20.0
PULSE = "pulse"
"""The concurrency group of an actor's method `pulse`, which is answered beside its work."""
TICK_S = 1.0
"""Waiting is counted in ticks of the driver's own life: one that stood still itself does not hold that against its actors."""


class ActorHung(RayError):  # type: ignore[misc]
    """An actor has not answered within its deadline, and its process was ended."""


@dataclass
class Deadlines:
    """How long the methods of a role may take, by what they have taken so far."""

    floor_s: float
    longest_s: float = 0.0
    """What the role's own time limits let a call take; it comes on top; such actors have a pulse beside their work."""
    _slowest: dict[str, float] = field(default_factory=dict)

    def of(self, method: str, *, fresh: bool) -> float:
        """Seconds for a call; `fresh`: of a process that has not answered before."""
        measured = self._slowest.get(method)
        floor = self.floor_s * (AT_FIRST if fresh or measured is None else 1.0)
        return self.longest_s + max(floor, TIMES_SLOWEST * (measured or 0.0))

    def silence_s(self, *, fresh: bool) -> float:
        """Seconds after which an actor with a pulse is asked for it, and within which it must give it; while it starts, it
        has none."""
        return self.floor_s * (AT_FIRST if fresh else 1.0) + (START_TIMEOUT_S if fresh else 0.0)

    def note(self, method: str, seconds: float) -> None:
        """A call was answered after so long."""
        self._slowest[method] = max(seconds, self._slowest.get(method, 0.0))


@dataclass
class Watched:
    """An actor's process, whose calls have deadlines."""

    name: str
    handle: Any
    deadlines: Deadlines
    _fresh: bool = True

    async def call(self, method: str, args: Sequence[Any]) -> tuple[Any, Any]:
        """Run a method; returns (ref of its first result, its second result). Raises what Ray raises, or ActorHung."""
        limit_s = self.deadlines.of(method, fresh=self._fresh)
        ref, summary = getattr(self.handle, method).options(num_returns=2).remote(*args)
        answer: asyncio.Future[Any] = asyncio.wrap_future(summary.future())
        summary.future().add_done_callback(partial(_look_at_failure, asyncio.get_running_loop(), ref))
        try:
            seconds, answered = await self._lived_until(answer, limit_s)
            if not answered:
                self.kill()
                raise ActorHung(
                    f"{self.name} has not answered `{method}` for {seconds:.0f} s and was taken for hung; where that is too "
                    "soon, raise resources.hung_after_s"
                )
        finally:
            answer.cancel()
        second = answer.result()
        if not self._fresh:  # the first answer holds the start of the process too
            self.deadlines.note(method, seconds)
        self._fresh = False
        return ref, second

    async def _lived_until(self, answer: "asyncio.Future[Any]", limit_s: float) -> tuple[float, bool]:
        """Seconds until the answer came; or until it was too late, or the actor gave no pulse."""
        silence_s = self.deadlines.silence_s(fresh=self._fresh) if self.deadlines.longest_s else limit_s
        lived = 0.0
        while lived < limit_s:
            part = min(silence_s, limit_s - lived)
            if (seconds := await lived_until(answer, part)) is not None:
                return lived + seconds, True
            lived += part
            if lived < limit_s:
                silent = await self._silent_s(answer, silence_s)
                lived += silent or 0.0
                if silent is None:
                    return lived + silence_s, False
        return lived, False

    async def _silent_s(self, answer: "asyncio.Future[Any]", within_s: float) -> float | None:
        """Seconds until the process has given a pulse, or its answer; None where it gives neither. One that has died says so in
        its answer."""
        pulse = self.handle.pulse.options(concurrency_group=PULSE).remote()
        beat: asyncio.Future[Any] = asyncio.wrap_future(pulse.future())
        try:
            return await lived_until(beat, within_s, answer)
        finally:
            if not beat.cancel():
                beat.exception()  # looked at, so that nobody warns of it

    def kill(self) -> None:
        """End the process. One that is stopped cannot see to that; Ray's own agent on its node does some seconds later."""
        ray.kill(self.handle)


def _look_at_failure(loop: asyncio.AbstractEventLoop, ref: Any, call: "concurrent.futures.Future[Any]") -> None:
    """A call that fails puts its error into both results. The caller, who may have gone, looks at the second; Ray prints errors
    that nobody has looked at."""
    if call.exception() is not None and not loop.is_closed():
        with suppress(RuntimeError):  # the loop has closed just now
            loop.call_soon_threadsafe(_look_at, ref)


def _look_at(failed: Any) -> None:
    with suppress(RayError):
        ray.get(failed, timeout=0)


async def lived_until(answer: "asyncio.Future[Any]", limit_s: float, *others: "asyncio.Future[Any]") -> float | None:
    """Seconds that this process has lived through until the answer, or one of the others, came; None where none came within
    the limit."""
    for ticks in range(math.ceil(limit_s / TICK_S)):
        began = time.monotonic()
        done, _ = await asyncio.wait({answer, *others}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return ticks * TICK_S + min(time.monotonic() - began, TICK_S)
    return None
