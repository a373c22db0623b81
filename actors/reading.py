"""Brings committed tables into the object store, beside everything else, for the scheduler and the evaluator; keeps nothing.

A read is a task and may be done twice. One that does not end in the time of an actor's call is taken for hung, as an actor
would be: it is ended, and begun anew as often as an actor would be.
"""

import asyncio
from contextlib import suppress
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from xpo_ray.actors.pools import cause_of
from xpo_ray.actors.watchdog import Deadlines, lived_until
from xpo_ray.decisions import GiveUp, after_death
from xpo_ray.errors import ActorLost
from xpo_ray.reporting import ActorReplaced, Reporter
from xpo_ray.storage import Commit, Storage

READ = "read"


def _read(storage: Storage, commit: Commit) -> tuple[pa.Table, None]:
    return storage.read_table(commit), None


read_table: Any = ray.remote(num_cpus=0, max_retries=3, num_returns=2)(_read)


class Reader:
    """Reads of one run; any number at a time."""

    def __init__(self, storage: Storage, reporter: Reporter, deadlines: Deadlines, max_restarts: int) -> None:
        self._storage = storage
        self._reporter = reporter
        self._deadlines = deadlines
        self._max_restarts = max_restarts

    async def read(self, commit: Commit) -> Any:
        """The ref of a committed table, once it is read. Raises what kept it from being read, or ActorLost."""
        hung = 0
        while (ref := await self._try(commit)) is None:
            hung += 1
            decision = after_death(hung, self._max_restarts)
            told = f"{commit.path} could not be read: the storage folder does not answer"
            if isinstance(decision, GiveUp):
                raise ActorLost(
                    f"{told}, tried {hung} times; mend it and resume the run, or raise resources.hung_after_s where it is slow"
                )
            self._reporter.emit(ActorReplaced("reader", hung, told))
            await asyncio.sleep(decision.after_s)
        return ref

    async def _try(self, commit: Commit) -> Any | None:
        """The ref; None where the read has hung and was ended."""
        ref, read = read_table.remote(self._storage, commit)
        answer: asyncio.Future[Any] = asyncio.wrap_future(read.future())
        try:
            seconds = await lived_until(answer, self._deadlines.of(READ, fresh=False))
            if seconds is None:
                ray.cancel(ref, force=True)
                return None
            answer.result()
        except RayTaskError as error:
            with suppress(RayError):
                ray.get(ref, timeout=0)  # it holds the error too, and Ray prints those that nobody has looked at
            raise cause_of(error) from error
        finally:
            if not answer.cancel():
                answer.exception()  # looked at, so that nobody warns of it
        self._deadlines.note(READ, seconds)
        return ref
