"""Pools of equal actors: each call goes to a free one; a dead one is replaced, and the call made again.

A Ray error means "unknown", not "did not happen" (DESIGN §8): every method that is called through a pool publishes under a
key, so that a second try finds what the first one left. Results stay in the object store; the driver sees summaries.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

from xpo_ray.actors.constructors import refuse_unmade
from xpo_ray.actors.summary import Summary
from xpo_ray.actors.watchdog import ActorHung, Deadlines, Watched
from xpo_ray.decisions import GiveUp, after_death
from xpo_ray.errors import ActorLost
from xpo_ray.profile import Stopwatch
from xpo_ray.reporting import ActorReplaced, Reporter, Warned

NORMAL, LOW, URGENT = 1, 2, 0


@dataclass
class Slot:
    """The place of one actor in a pool; its process may change."""

    index: int
    actor: Watched
    free: int
    """Lanes without a call: how many more it takes at once."""
    deaths: int = 0
    """Since it last finished a piece of work."""
    incarnation: int = 0
    mending: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass
class Pool:
    """`size` actors of a role, each of which takes `lanes` calls at once. `start(name, index)` makes the actor of a slot, or
    its next one; `prepare(actor)` brings a new one to the pool's state."""

    role: str
    size: int
    start: Callable[[str, int], Any]
    reporter: Reporter
    max_restarts: int
    deadlines: Deadlines
    watch: Stopwatch = field(default_factory=Stopwatch)
    lanes: int = 1
    prepare: Callable[[Watched], Awaitable[None]] | None = None
    _slots: list[Slot] = field(default_factory=list)
    _waiting: list[tuple[int, int, asyncio.Future[Slot]]] = field(default_factory=list)
    _count: "itertools.count[int]" = field(default_factory=itertools.count)
    _refusing: bool = False
    _stopped: bool = False
    _gathering: asyncio.Lock = field(default_factory=asyncio.Lock)
    _told: set[str] = field(default_factory=set)
    """What its actors have remarked; all may remark the same."""

    @property
    def idle(self) -> bool:
        """Whether every actor is free."""
        return all(slot.free == self.lanes for slot in self._slots)

    def launch(self) -> None:
        """Make the actors; they start side by side."""
        self._slots = [Slot(i, self._started(f"{self.role}/{i}", i), self.lanes) for i in range(self.size)]

    async def call(self, method: str, *args: Any, priority: int = NORMAL) -> tuple[Any, Any]:
        """Run `method` on a free actor; returns (ref of its first result, its second result).

        Raises what the method raised, or ActorLost when the role died more often than allowed.
        """
        slot = await self._acquire(priority)
        try:
            return await self._call_on(slot, method, args)
        finally:
            self._release(slot)

    async def each(self, method: str, *args: Any) -> list[Any]:
        """Run `method` once on every actor, when all are free; returns the second results."""
        async with self._gathering:
            held: list[Slot] = []
            try:
                for _ in range(self.size * self.lanes):
                    held.append(await self._acquire(URGENT))
                done = await asyncio.gather(*(self._call_on(s, method, args) for s in self._slots))
            finally:
                for slot in held:
                    self._release(slot)
        return [second for _, second in done]

    def refuse(self) -> None:
        """Begin no further work: who waits for an actor, or comes now, is cancelled; what actors do goes on to its end."""
        self._refusing = True
        for _, _, future in self._waiting:
            future.cancel()

    def stop(self) -> None:
        """End all actors; who still waits for an answer is cancelled."""
        self._stopped = True
        for slot in self._slots:
            slot.actor.kill()

    def _started(self, name: str, index: int) -> Watched:
        return Watched(name, self.start(name, index), self.deadlines)

    async def _call_on(self, slot: Slot, method: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
        while True:
            async with slot.mending:  # a new process has no weights yet
                pass
            began, incarnation = time.monotonic(), slot.incarnation
            try:
                ref, second = await slot.actor.call(method, args)
            except RayTaskError as error:
                raise cause_of(error) from error
            except RayError as error:
                if not is_death(error):
                    raise
                refuse_unmade(f"{self.role}/{slot.index}", error)
                async with slot.mending:  # of several calls that one death ended, the first sees to it
                    if slot.incarnation == incarnation:
                        await self._replace(slot, error)
                continue
            slot.deaths = 0
            self.watch.note(f"{self.role}/{slot.index}", method, began, second)
            self._tell(second)
            return ref, second

    def _tell(self, second: Any) -> None:
        """Warn of what an actor remarks, once."""
        remarks = second.remarks if isinstance(second, Summary) else {}
        for code, message in remarks.items():
            if message not in self._told:
                self._told.add(message)
                self.reporter.emit(Warned(code, message))

    async def _replace(self, slot: Slot, error: BaseException) -> None:
        """A new process in the place of a dead one, brought to the pool's state."""
        while True:
            if self._stopped:  # it did not die, it was ended
                raise asyncio.CancelledError
            slot.deaths += 1
            decision = after_death(slot.deaths, self.max_restarts)
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if isinstance(decision, GiveUp):
                raise ActorLost(
                    f"{self.role}/{slot.index} died {slot.deaths} times without finishing a piece of work: {reason}"
                ) from error
            self.reporter.emit(ActorReplaced(f"{self.role}/{slot.index}", slot.deaths, reason))
            slot.actor.kill()
            await asyncio.sleep(decision.after_s)
            if self._stopped:
                raise asyncio.CancelledError
            slot.incarnation += 1
            slot.actor = self._started(f"{self.role}/{slot.index}.{slot.incarnation}", slot.index)
            try:
                if self.prepare is not None:
                    await self.prepare(slot.actor)
            except RayTaskError as failure:
                raise cause_of(failure) from failure
            except RayError as again:
                if not is_death(again):
                    raise
                refuse_unmade(f"{self.role}/{slot.index}", again)
                error = again
                continue
            return

    async def _acquire(self, priority: int) -> Slot:
        if self._refusing:
            raise asyncio.CancelledError
        slot = max(self._slots, key=lambda s: s.free)
        if slot.free:
            slot.free -= 1
            return slot
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._count), future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # it came too late to be taken, and is not to be lost
                self._release(future.result())
            raise

    def _release(self, slot: Slot) -> None:
        while self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(slot)
                return
        slot.free += 1


def is_death(error: RayError) -> bool:
    """Whether an error says that a process or its objects are gone (or may be), so that a new one is needed."""
    name = type(error).__name__
    return isinstance(error, (RayActorError, ObjectLostError, ActorHung)) or name in (
        "OutOfMemoryError",
        "NodeDiedError",
        "WorkerCrashedError",
        "ActorUnschedulableError",
        "LocalRayletDiedError",
    )


def cause_of(error: RayTaskError) -> BaseException:
    """What the actor's own code raised."""
    cause: object = getattr(error, "cause", None)
    if not isinstance(cause, BaseException):
        return RuntimeError(str(error))
    cause.add_note(str(error))
    return cause
