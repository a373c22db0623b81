"""Held-out evaluation beside the next iteration's draws (DESIGN §4.18): low priority, committed, never fatal."""

import asyncio
import time
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from xpo_ray.actors.pools import LOW, Pool
from xpo_ray.actors.reading import Reader
from xpo_ray.actors.roles import Roles
from xpo_ray.algorithms import row_of_iteration
from xpo_ray.decisions import runaway_length
from xpo_ray.errors import DiskFull, JudgeUnreachable, XpoRayError
from xpo_ray.evaluation.metrics import held_out_metrics
from xpo_ray.evaluation.table import held_out_key
from xpo_ray.generation.engine import Sampling, held_out_sampling
from xpo_ray.preparation import Prepared
from xpo_ray.reporting import EvaluationDone, Reporter, ShardDone, Warned
from xpo_ray.storage import Storage


class Evaluator:
    """Evaluations of a run, one task each; an evaluation is compared with the base's and the one before it."""

    def __init__(self, prepared: Prepared, storage: Storage, reader: Reader, roles: Roles, reporter: Reporter) -> None:
        assert prepared.held_out is not None
        prompts = prepared.held_out
        self.spec = prepared.spec
        self.held_out_id = prepared.held_out_id
        self.storage = storage
        self.reader = reader
        self.roles = roles
        self.reporter = reporter
        size = self.spec.data.shard_size
        self.shards = [ray.put(prompts.take(rows)) for rows in _cut(prompts.table.num_rows, size)]
        self.metrics: dict[int, dict[str, float | None]] = {}
        self._drawn: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, iteration: int) -> None:
        """Evaluate the model after an iteration (0: the base), whose weights its pool holds now."""
        if iteration in self._tasks:
            return
        previous = max(self._tasks, default=None)
        self._drawn[iteration] = asyncio.Event()
        self._tasks[iteration] = asyncio.create_task(self._guarded(iteration, previous))

    def resume(self, iterations: int) -> None:
        """Take up the evaluations of earlier attempts; the responses of all but the present model are committed."""
        for t in range(iterations):
            if t == 0 or self.storage.find(self._key("drawn", t, 0)) is not None:
                self.start(t)

    def _key(self, stage: str, iteration: int, shard: int) -> str:
        return held_out_key(self.held_out_id, stage, iteration, shard)

    async def drawn(self) -> None:
        """Wait until no evaluation needs the policy's present weights any longer."""
        for event in self._drawn.values():
            await event.wait()

    async def finish(self) -> None:
        """Wait for all evaluations."""
        await asyncio.gather(*self._tasks.values())

    async def _guarded(self, iteration: int, previous: int | None) -> None:
        started = time.monotonic()
        try:
            metrics = await self._evaluate(iteration, previous)
        except DiskFull:  # ends the attempt; the next one evaluates again
            raise
        except JudgeUnreachable as error:  # so too, but training goes on to its end first
            told = f"evaluation of iteration {iteration} waits, the run will pause for it at its end: {error}"
            self.reporter.emit(Warned("judge_unreachable", told))
            raise
        except (XpoRayError, ray.exceptions.RayError, RuntimeError, ValueError, OSError) as error:
            self.reporter.emit(Warned("evaluation_failed", f"evaluation of iteration {iteration} failed: {error}"))
        else:
            self.metrics[iteration] = metrics
            self.reporter.emit(EvaluationDone(iteration, metrics, time.monotonic() - started))
            self._warn(iteration)
        finally:
            self._drawn[iteration].set()

    async def _evaluate(self, iteration: int, previous: int | None) -> dict[str, float | None]:
        pool = self.roles.base if iteration == 0 else self.roles.policy
        assert pool is not None
        assert self.roles.base is not None
        drawn = await asyncio.gather(*(self._draw(pool, iteration, k) for k in range(len(self.shards))))
        self._drawn[iteration].set()
        others = [v for v in (0, previous) if v is not None and v != iteration]
        for version in others:
            await self._tasks[version]
        judged = await asyncio.gather(*(self._judge(iteration, k, drawn[k], previous) for k in range(len(self.shards))))
        return await asyncio.to_thread(self._measure, iteration, judged)

    async def _draw(self, pool: Pool, iteration: int, shard: int) -> Any:
        key = self._key("drawn", iteration, shard)
        if (commit := self.storage.find(key)) is not None:
            return await self.reader.read(commit)
        assert self.roles.base is not None
        args = (self.shards[shard], self.sampling, self.spec.seed, iteration)
        ref, _ = await pool.call("held_out", *args, priority=LOW)
        ref, _ = await self.roles.base.call("held_out_base", ref, priority=LOW)
        await self.roles.clerk.call("publish", key, ref, priority=LOW)
        return ref

    async def _judge(self, iteration: int, shard: int, drawn: Any, previous: int | None) -> pa.Table:
        key = self._key("judged", iteration, shard)
        if (commit := self.storage.find(key)) is None:
            base = await self._judged(0, shard) if iteration != 0 else None
            before = await self._judged(previous, shard) if previous is not None and iteration != 0 else None
            ref, done = await self.roles.evaluation_judge.call("held_out", drawn, base, before, priority=LOW)
            await self.roles.clerk.call("publish", key, ref, priority=LOW)
            self.reporter.emit(
                ShardDone(iteration, shard, "held-out", done.prompts, done.seconds, fresh=True, counts=done.counts)
            )
            return await ref
        return await (await self.reader.read(commit))

    async def _judged(self, iteration: int, shard: int) -> Any:
        commit = self.storage.find(self._key("judged", iteration, shard))
        return None if commit is None else await self.reader.read(commit)

    def _measure(self, iteration: int, judged: list[pa.Table]) -> dict[str, float | None]:
        base = None
        if iteration != 0:
            keys = [self._key("judged", 0, k) for k in range(len(self.shards))]
            commits = [c for key in keys if (c := self.storage.find(key)) is not None]
            base = (
                pa.concat_tables([self.storage.read_table(c) for c in commits]) if len(commits) == len(keys) else None
            )
        beta = row_of_iteration(self.spec.algorithm, max(iteration, 1)).beta
        return held_out_metrics(
            pa.concat_tables(judged),
            base,
            beta=beta,
            dtype=self.spec.model.dtype,
            own_distribution=self.sampling.own_distribution,
        )

    @property
    def sampling(self) -> Sampling:
        """How the spec has held-out responses drawn."""
        return held_out_sampling(self.spec)

    def _warn(self, iteration: int) -> None:
        lengths = [self.metrics[t]["length"] or 0.0 for t in sorted(self.metrics)]
        truncated = self.metrics[iteration]["truncation_rate"] or 0.0
        if runaway_length(lengths, truncated):
            self.reporter.emit(
                Warned(
                    "runaway_length",
                    f"held-out responses have grown from {lengths[0]:.0f} to {lengths[-1]:.0f} tokens and {truncated:.0%} are "
                    "cut at the limit; the judge may reward length, or the learning rate may be too high",
                )
            )


def _cut(rows: int, size: int) -> list[Any]:
    """The rows of each shard."""
    return [np.arange(begin, min(begin + size, rows)) for begin in range(0, rows, size)]
