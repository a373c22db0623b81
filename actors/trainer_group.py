"""One incarnation of a trainer group: its ranks are started together, called together and ended together (DESIGN §4.13).

seat ──call──► rank 0 … rank N-1 ──► the first rank's answer, once all have answered; or the first failure of any
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayTaskError

from xpo_ray.actors.watchdog import Watched
from xpo_ray.errors import GroupBroken, XpoRayError

GRACE_S = 3.0
"""After an error that another rank's death may be behind: how long to wait for Ray to say so."""


@dataclass
class TrainerGroup:
    """The ranks. After any failure they are of no more use but to be killed."""

    ranks: list[Watched]
    _met: bool = False

    async def call(self, method: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
        """Run a method on all ranks; returns (ref of the first rank's first result, its second result).

        Raises what Ray raises for the first rank that fails.
        """
        if not self._met:
            await self._on_all("join", (self.ranks[0].handle.address.remote(),))
            self._met = True
        return await self._on_all(method, args)

    async def _on_all(self, method: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
        calls = [asyncio.create_task(rank.call(method, args)) for rank in self.ranks]
        try:
            await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
            if (error := _failure(calls)) is not None:
                raise await self._explained(error, calls)
            return calls[0].result()
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _explained(self, error: BaseException, calls: "list[asyncio.Task[tuple[Any, Any]]]") -> BaseException:
        """The death behind an error that may only follow from it, where Ray knows of it soon."""
        waiting = [call for call in calls if not call.done()]
        if _place(error) < 2 or not waiting:
            return error
        await asyncio.wait(waiting, timeout=GRACE_S, return_when=asyncio.FIRST_EXCEPTION)
        return _failure(calls) or error

    def kill(self) -> None:
        """End all ranks."""
        for rank in self.ranks:
            rank.kill()


def lost_others(error: BaseException) -> bool:
    """Whether a rank says that another one is gone."""
    return isinstance(error, RayTaskError) and isinstance(error.cause, GroupBroken)


def _failure(calls: "list[asyncio.Task[tuple[Any, Any]]]") -> BaseException | None:
    """The failure, of those so far, that explains the others."""
    failures = [f for call in calls if call.done() and not call.cancelled() and (f := call.exception()) is not None]
    return min(failures, key=_place, default=None)


def _place(error: BaseException) -> int:
    """An error that the work raised on purpose, a death, any other error, that a rank has lost the others."""
    if lost_others(error):
        return 3
    if isinstance(error, RayTaskError):
        return 0 if isinstance(error.cause, XpoRayError) else 2
    return 1
