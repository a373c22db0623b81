"""Streams shards through the actors by object ref (DESIGN §3, §4.16): draw, judge, reference log-probs; each stage committed.

A committed stage is never made again. `dedicated` starts shards as the trainer consumes them, so that drawing, judging and
training overlap with bounded work in flight; `colocated` brings all shards of an iteration through one stage after another.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from xpo_ray.actors.pools import Pool
from xpo_ray.actors.summary import Summary
from xpo_ray.algorithms import Draw, Row
from xpo_ray.decisions import next_stage
from xpo_ray.generation.engine import DrawContext, sampling_of
from xpo_ray.reporting import Reporter, ShardDone
from xpo_ray.schedule import Schedule, Slice
from xpo_ray.shards import STAGES, Stage
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Commit, Storage


@dataclass(frozen=True)
class IterationRoles:
    """Who does what in an iteration, and with which version of the weights."""

    iteration: int
    row: Row
    policy: Pool | None
    policy_version: int
    reference: Pool
    reference_version: int
    judge: Pool

    def drawer(self, draw: Draw) -> tuple[Pool, int]:
        """The pool and version that make a draw."""
        if draw.source == "reference" or self.policy is None:
            return self.reference, self.reference_version
        return self.policy, self.policy_version


def _read(storage: Storage, commit: Commit) -> pa.Table:
    return storage.read_table(commit)


read_table: Any = ray.remote(num_cpus=0, max_retries=3)(_read)
"""A task that brings a committed table into the object store; reading may be done twice."""


def shard_key(stage: Stage, iteration: int, shard: int) -> str:
    """Where a stage of a shard is committed."""
    return f"iteration-{iteration:04d}/{stage}/shard-{shard:05d}"


@dataclass
class Scheduler:
    """The shards of a run; one iteration at a time is under way."""

    spec: RunSpec
    schedule: Schedule
    prompts: pa.Table
    storage: Storage
    reporter: Reporter
    in_flight: int
    _roles: IterationRoles | None = None
    _tasks: dict[int, "asyncio.Task[Any]"] = field(default_factory=dict)
    _read: dict[tuple[int, int], Any] = field(default_factory=dict)
    _started: int = 0

    async def begin(self, roles: IterationRoles) -> None:
        """Start an iteration; with `colocated` all its shards are made here, stage by stage."""
        self.stop()
        self._roles, self._read = roles, {}
        if self.spec.resources.layout == "colocated":
            await self._in_turn(roles)

    def stop(self) -> None:
        """Forget the shards under way; what they commit stays."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks, self._started = {}, 0

    async def tables(self, slices: Sequence[Slice]) -> list[Any]:
        """Refs of the SCORED tables of a window's slices; starts the shards behind them as far as the bound allows."""
        assert self._roles is not None
        refs = [await self._table(s.iteration, s.shard) for s in slices]
        own = [s.shard for s in slices if s.iteration == self._roles.iteration]
        for shard in [k for k in self._tasks if own and k < min(own)]:
            del self._tasks[shard]
        return refs

    async def _table(self, iteration: int, shard: int) -> Any:
        roles = self._roles
        assert roles is not None
        key = iteration, shard
        streaming = (
            self.spec.resources.layout == "dedicated" and iteration == roles.iteration and shard >= self._started
        )
        if streaming:
            self._start_until(shard + self.in_flight)
        if iteration == roles.iteration and shard in self._tasks:
            self._start_until(shard + self.in_flight)
            return await self._tasks[shard]
        if key not in self._read:
            while len(self._read) >= 2 * self.in_flight:
                self._read.pop(next(iter(self._read)))
            commit = self.storage.find(shard_key("scored", iteration, shard))
            assert commit is not None, f"shard {shard} of iteration {iteration} is trained on but not committed"
            self._read[key] = read_table.remote(self.storage, commit)
        return self._read[key]

    def _start_until(self, stop: int) -> None:
        assert self._roles is not None
        if self.spec.resources.layout != "dedicated":
            return
        for shard in range(self._started, min(stop, self.schedule.shards(self._roles.iteration))):
            task = asyncio.create_task(self._through(self._roles, shard))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())  # awaited in order, perhaps never
            self._tasks[shard] = task
            self._started = shard + 1

    async def _through(self, roles: IterationRoles, shard: int) -> Any:
        """All stages of a shard that are not committed yet; returns the ref of its SCORED table."""
        ref = None
        while (stage := self._next_stage(roles.iteration, shard)) is not None:
            ref = await self._make(roles, shard, stage, ref)
        return ref if ref is not None else self._committed(roles.iteration, shard, "scored")

    def _next_stage(self, iteration: int, shard: int) -> Stage | None:
        committed = {s for s in STAGES if self.storage.find(shard_key(s, iteration, shard)) is not None}
        return next_stage(committed)

    def _committed(self, iteration: int, shard: int, stage: Stage) -> Any:
        commit = self.storage.find(shard_key(stage, iteration, shard))
        assert commit is not None
        self.reporter.emit(ShardDone(iteration, shard, stage, commit.rows, 0.0, fresh=False, counts={}))
        return read_table.remote(self.storage, commit)

    async def _make(self, roles: IterationRoles, shard: int, stage: Stage, before: Any) -> Any:
        """One stage of one shard, committed; `before` is the ref of the stage before, None to read it from storage."""
        started = time.monotonic()
        if stage == "candidates":
            ref, summary = await self._candidates(roles, shard)
        elif stage == "preferences":
            before = before or self._committed(roles.iteration, shard, "candidates")
            key = shard_key("preferences", roles.iteration, shard)
            args = (roles.row, self.spec.seed, roles.iteration, key)
            ref, summary = await roles.judge.call("prefer", before, *args)
        else:
            before = before or self._committed(roles.iteration, shard, "preferences")
            key = shard_key("scored", roles.iteration, shard)
            ref, summary = await roles.reference.call("score", before, roles.reference_version, key)
        seconds = time.monotonic() - started
        event = ShardDone(roles.iteration, shard, stage, summary.prompts, seconds, fresh=True, counts=summary.counts)
        self.reporter.emit(event)
        return ref

    async def _candidates(self, roles: IterationRoles, shard: int) -> tuple[Any, Summary]:
        key = shard_key("candidates", roles.iteration, shard)
        prompts = self.prompts.take(self.schedule.shard_prompts(roles.iteration, shard))
        ref: Any = ray.put(prompts)
        if not roles.row.draws:
            return await roles.judge.call("collect", ref, key)
        assert self.spec.seed is not None
        counts: dict[str, float] = {}
        for i, draw in enumerate(roles.row.draws):
            pool, version = roles.drawer(draw)
            last = i == len(roles.row.draws) - 1
            purpose = f"{draw.source}-{i}"
            context = DrawContext(self.spec.seed, purpose, roles.iteration, version)
            sampling = sampling_of(self.spec.sampling, draw.decoding == "greedy")
            commit = key if last else None
            ref, summary = await pool.call("draw", ref, draw, sampling, context, commit, roles.row.dataset_candidates)
            counts = {name: counts.get(name, 0.0) + value for name, value in summary.counts.items()}
        return ref, Summary(prompts.num_rows, 0.0, counts)

    async def _in_turn(self, roles: IterationRoles) -> None:
        """Stage after stage over all shards, each stage with bounded work in flight."""
        for stage in STAGES:
            gate = asyncio.Semaphore(self.in_flight)

            async def one(shard: int, stage: Stage = stage, gate: asyncio.Semaphore = gate) -> None:
                async with gate:
                    if self._next_stage(roles.iteration, shard) == stage:
                        await self._make(roles, shard, stage, None)

            async with asyncio.TaskGroup() as group:
                for shard in range(self.schedule.shards(roles.iteration)):
                    group.create_task(one(shard))
