"""Draws of a reference that never changes (DESIGN §3): they depend on nothing that is trained, so they are made ahead.

In a fully online run the windows are small and many: a block of iterations is drawn as one batch, and the next block while
the reference has nothing else to do. Blocks follow from the schedule alone, so that a resumed run draws the same batches.
"""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from xpo_ray.actors.pools import LOW, NORMAL, Pool
from xpo_ray.actors.summary import Summary
from xpo_ray.algorithms import Draw
from xpo_ray.generation.engine import DrawContext, Sampling
from xpo_ray.plan.objects import BLOCK_PROMPTS
from xpo_ray.schedule import Schedule


@dataclass(frozen=True)
class Drawn:
    """Where a shard's draws are: a table by object ref, and the row at which they begin."""

    ref: Any
    begin: int
    summary: Summary


@dataclass
class Ahead:
    """Reference draws of iterations that are under way or to come."""

    schedule: Schedule
    online: bool
    seed: int
    bound: int
    """Shards, or blocks of them, that may lie drawn before their iteration begins."""
    prompts: Callable[[int, int], pa.Table]
    """The prompts of (iteration, shard)."""
    _tasks: dict[tuple[int, int, int], "asyncio.Task[tuple[Any, Summary]]"] = field(default_factory=dict)

    async def drawn(
        self, pool: Pool, version: int, i: int, draw: Draw, sampling: Sampling, iteration: int, shard: int
    ) -> Drawn:
        """The draws of a shard, made now or before; `i` is the draw's place in the row."""
        task = self._task(pool, version, i, draw, sampling, self._block(iteration), shard, NORMAL)
        ref, summary = await task
        sizes = [self._size(t, shard) for t in self._iterations(self._block(iteration))]
        begin = sum(sizes[: iteration - self._iterations(self._block(iteration))[0]])
        share = self._size(iteration, shard) / max(sum(sizes), 1)
        counts = {name: value * share for name, value in summary.counts.items()}
        return Drawn(ref, begin, Summary(self._size(iteration, shard), summary.seconds * share, counts))

    def next(
        self, pool: Pool, version: int, i: int, draw: Draw, sampling: Sampling, iteration: int
    ) -> "asyncio.Task[Any] | None":
        """Start the next draws behind an iteration, if the bound allows any."""
        block, last = self._block(iteration), self._block(self.schedule.partitions)
        coming = ((b, k) for b in range(block + 1, last + 1) for k in range(self._shards(b)))
        for later, shard in itertools.islice(coming, self.bound):
            if (later, shard, i) not in self._tasks:
                return self._task(pool, version, i, draw, sampling, later, shard, LOW)
        return None

    def forget(self, before: int) -> None:
        """Let go of the draws of iterations that are over."""
        for key in [k for k in self._tasks if self._iterations(k[0])[-1] < before]:
            self._tasks.pop(key).cancel()

    def stop(self) -> None:
        """Let go of all draws."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks = {}

    def _task(
        self, pool: Pool, version: int, i: int, draw: Draw, sampling: Sampling, block: int, shard: int, priority: int
    ) -> "asyncio.Task[tuple[Any, Summary]]":
        key = block, shard, i
        if key not in self._tasks:
            iterations = [t for t in self._iterations(block) if shard < self.schedule.shards(t)]
            contexts = tuple(DrawContext(self.seed, f"{draw.source}-{i}", t, version) for t in iterations)
            shards = [ray.put(self.prompts(t, shard)) for t in iterations]
            call = pool.call("draw", draw, sampling, contexts, *shards, priority=priority)
            task = asyncio.create_task(call)
            task.add_done_callback(lambda t: t.cancelled() or t.exception())  # awaited when its shard comes, or never
            self._tasks[key] = task
        return self._tasks[key]

    def _size(self, iteration: int, shard: int) -> int:
        return len(self.schedule.shard_prompts(iteration, shard)) if shard < self.schedule.shards(iteration) else 0

    def _shards(self, block: int) -> int:
        return max(self.schedule.shards(t) for t in self._iterations(block))

    @property
    def _each(self) -> int:
        """Iterations in a block."""
        return max(BLOCK_PROMPTS // self.schedule.batch_size, 1) if self.online else 1

    def _block(self, iteration: int) -> int:
        return (iteration - 1) // self._each

    def _iterations(self, block: int) -> range:
        first = block * self._each + 1
        return range(first, min(first + self._each, self.schedule.partitions + 1))
