"""Streams shards through the actors by object ref (DESIGN §3, §4.16): draw, judge, reference log-probs.

`dedicated` starts shards as the trainer consumes them, so that drawing, judging and training overlap with bounded work in
flight; `colocated` brings all shards of an iteration through one stage after another. Commits run beside all that, in the
order of stages for each shard; the driver writes a step into the ledger when the commits under it are done. A committed
stage is never made again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray

from xpo_ray.actors.ahead import Ahead, Drawn
from xpo_ray.actors.pools import URGENT, Pool
from xpo_ray.actors.reading import Reader
from xpo_ray.actors.summary import Summary
from xpo_ray.algorithms import Draw, Row
from xpo_ray.decisions import next_stage
from xpo_ray.generation.engine import DrawContext, sampling_of
from xpo_ray.reporting import Reporter, ShardDone
from xpo_ray.schedule import Schedule, Slice
from xpo_ray.shards import STAGES, Stage
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Storage

QUIET_S = 0.02
"""How often the filler looks whether the cores are quiet."""


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
    ahead: bool
    """The reference stays what it is to the end of the run, so that its draws may be made ahead."""

    def drawers(self) -> list[Pool]:
        """The pools that draw in this iteration, each once."""
        return list({id(pool): pool for pool, _ in map(self.drawer, self.row.draws)}.values())

    def drawer(self, draw: Draw) -> tuple[Pool, int]:
        """The pool and version that make a draw."""
        if draw.source == "reference" or self.policy is None:
            return self.reference, self.reference_version
        return self.policy, self.policy_version


def shard_key(stage: Stage, iteration: int, shard: int) -> str:
    """Where a stage of a shard is committed."""
    return f"iteration-{iteration:04d}/{stage}/shard-{shard:05d}"


@dataclass
class Scheduler:
    """The shards of a run; one iteration at a time is under way."""

    spec: RunSpec
    schedule: Schedule
    prompts: Callable[[int, int], pa.Table]
    """The prompts of (iteration, shard)."""
    storage: Storage
    reader: Reader
    clerk: Pool
    reporter: Reporter
    in_flight: int
    ahead: Ahead
    quiet: Callable[[], bool]
    """Whether the cores have nothing better to do than to draw ahead."""
    _roles: IterationRoles | None = None
    _tasks: dict[int, "asyncio.Task[Any]"] = field(default_factory=dict)
    _commits: dict[tuple[int, int], "asyncio.Task[None]"] = field(default_factory=dict)
    _filler: "asyncio.Task[None] | None" = None
    _reads: dict[tuple[int, int], "asyncio.Task[Any]"] = field(default_factory=dict)
    _started: int = 0

    async def begin(self, roles: IterationRoles) -> None:
        """Start an iteration; with `colocated` all its shards are made here, stage by stage."""
        self.stop()
        await self.settle()
        self._roles, self._reads = roles, {}
        self.ahead.forget(roles.iteration)
        if self.spec.resources.layout == "colocated":
            await self._in_turn(roles)
        elif roles.ahead and roles.row.draws:
            self._filler = asyncio.create_task(self._fill(roles))

    def stop(self) -> None:
        """Forget the shards under way; what they commit stays, and so do draws ahead."""
        for task in (*self._tasks.values(), *self._reads.values(), *([self._filler] if self._filler else [])):
            task.cancel()
        self._tasks, self._reads, self._started, self._filler = {}, {}, 0, None

    async def settle(self) -> None:
        """Wait for the commits under way, whatever becomes of them: what was made is not to be lost, nor made twice."""
        await asyncio.gather(*self._commits.values(), return_exceptions=True)
        self._commits = {}

    async def drain(self, within_s: float) -> None:
        """Let the shards that actors work on come to their next commit; what waits for an actor was let go by its pool."""
        if self._filler is not None:
            self._filler.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within_s)

    async def tables(self, slices: Sequence[Slice]) -> list[Any]:
        """Refs of the SCORED tables of a window's slices; starts the shards behind them as far as the bound allows."""
        assert self._roles is not None
        reads = {s: self._reading(s.iteration, s.shard) for s in slices if not self._streams(s.iteration, s.shard)}
        refs = [await (reads[s] if s in reads else self._streamed(s.shard)) for s in slices]
        own = [s.shard for s in slices if s.iteration == self._roles.iteration]
        for shard in [k for k in self._tasks if own and k < min(own)]:
            del self._tasks[shard]
        return refs

    async def committed(self, slices: Sequence[Slice]) -> None:
        """Wait until the tables of a window are in storage. Raises what kept them out of it."""
        for s in slices:
            if (task := self._commits.get((s.iteration, s.shard))) is not None:
                await asyncio.shield(task)
        done = [key for key, task in self._commits.items() if task.done() and task.exception() is None]
        for key in done:
            del self._commits[key]

    def _streams(self, iteration: int, shard: int) -> bool:
        """Whether a shard comes through the actors now, and not out of storage."""
        assert self._roles is not None
        if self.spec.resources.layout != "dedicated" or iteration != self._roles.iteration:
            return False
        return shard in self._tasks or shard >= self._started

    async def _streamed(self, shard: int) -> Any:
        self._start_until(shard + self.in_flight)
        return await asyncio.shield(self._tasks[shard])  # who waits may be stopped; the shard goes on

    def _reading(self, iteration: int, shard: int) -> "asyncio.Task[Any]":
        """The read of a committed shard, begun here or a while ago."""
        key = iteration, shard
        if key not in self._reads:
            while len(self._reads) >= 2 * self.in_flight:
                self._reads.pop(next(iter(self._reads)))
            self._reads[key] = task = asyncio.create_task(self._read(*key))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())  # awaited in the window's order
        return self._reads[key]

    async def _read(self, iteration: int, shard: int) -> Any:
        key = iteration, shard
        try:
            if key in self._commits:
                await asyncio.shield(self._commits[key])  # who waits may be stopped; the commit goes on
            commit = self.storage.find(shard_key("scored", iteration, shard))
            assert commit is not None, f"shard {shard} of iteration {iteration} is trained on but not committed"
            return await self.reader.read(commit)
        except BaseException:
            self._reads.pop(key, None)  # whoever asks again reads again
            raise

    def _start_until(self, stop: int) -> None:
        assert self._roles is not None
        for shard in range(self._started, min(stop, self.schedule.shards(self._roles.iteration))):
            task = asyncio.create_task(self._through(self._roles, shard))
            task.add_done_callback(lambda t: t.cancelled() or t.exception())  # awaited in order, perhaps never
            self._tasks[shard] = task
            self._started = shard + 1

    async def _through(self, roles: IterationRoles, shard: int) -> Any:
        """All stages of a shard that are not committed yet; returns the ref of its SCORED table."""
        stage = self._next_stage(roles.iteration, shard)
        if stage is None:
            return await self._read_committed(roles.iteration, shard, "scored")
        ref = None
        for each in STAGES[STAGES.index(stage) :]:
            ref = await self._make(roles, shard, each, ref)
        return ref

    def _next_stage(self, iteration: int, shard: int) -> Stage | None:
        committed = {s for s in STAGES if self.storage.find(shard_key(s, iteration, shard)) is not None}
        return next_stage(committed)

    async def _read_committed(self, iteration: int, shard: int, stage: Stage) -> Any:
        commit = self.storage.find(shard_key(stage, iteration, shard))
        assert commit is not None
        self.reporter.emit(ShardDone(iteration, shard, stage, commit.rows, 0.0, fresh=False, counts={}))
        return await self.reader.read(commit)

    async def _make(self, roles: IterationRoles, shard: int, stage: Stage, before: Any) -> Any:
        """One stage of one shard; `before` is the ref of the stage before, None to read it from storage. Its commit runs on
        behind."""
        started = time.monotonic()
        t = roles.iteration
        if stage == "candidates":
            ref, summary = await self._candidates(roles, shard)
        elif stage == "preferences":
            before = before or await self._read_committed(t, shard, "candidates")
            ref, summary = await roles.judge.call("prefer", before, roles.row, self.spec.seed, t)
        else:
            before = before or await self._read_committed(t, shard, "preferences")
            ref, summary = await roles.reference.call("score", before, roles.reference_version)
        seconds = time.monotonic() - started
        self._commit(t, shard, stage, ref)
        self.reporter.emit(ShardDone(t, shard, stage, summary.prompts, seconds, fresh=True, counts=summary.counts))
        return ref

    def _commit(self, iteration: int, shard: int, stage: Stage, ref: Any) -> None:
        before = self._commits.get((iteration, shard))
        task = asyncio.create_task(self._published(before, shard_key(stage, iteration, shard), ref))
        task.add_done_callback(lambda t: t.cancelled() or t.exception())  # awaited by `committed`
        self._commits[iteration, shard] = task

    async def _published(self, before: "asyncio.Task[None] | None", key: str, ref: Any) -> None:
        """Stages are committed in their order: what is judged must not outlive the draws that it judges."""
        if before is not None:
            await before
        await self.clerk.call("publish", key, ref)

    async def _candidates(self, roles: IterationRoles, shard: int) -> tuple[Any, Summary]:
        prompts = self.prompts(roles.iteration, shard)
        ref: Any = ray.put(prompts)
        drawn = await asyncio.gather(*(self._drawn(roles, shard, i, ref) for i in range(len(roles.row.draws))))
        begins = tuple(d.begin for d in drawn)
        dataset = roles.row.dataset_candidates or not roles.row.judged
        made, _ = await self.clerk.call("collect", ref, dataset, begins, *(d.ref for d in drawn), priority=URGENT)
        counts: dict[str, float] = {}
        for name, value in ((n, v) for d in drawn for n, v in d.summary.counts.items()):
            counts[name] = counts.get(name, 0.0) + value
        return made, Summary(prompts.num_rows, 0.0, counts)

    async def _drawn(self, roles: IterationRoles, shard: int, i: int, prompts: Any) -> Drawn:
        """The i-th draw of a shard: now, or ahead where the reference never changes."""
        draw = roles.row.draws[i]
        pool, version = roles.drawer(draw)
        sampling = sampling_of(self.spec.sampling, draw.decoding == "greedy")
        if draw.source == "reference" and roles.ahead:
            return await self.ahead.drawn(pool, version, i, draw, sampling, roles.iteration, shard)
        assert self.spec.seed is not None
        context = DrawContext(self.spec.seed, f"{draw.source}-{i}", roles.iteration, version)
        ref, summary = await pool.call("draw", draw, sampling, (context,), prompts)
        return Drawn(ref, 0, summary)

    async def _fill(self, roles: IterationRoles) -> None:
        """Draw ahead, a piece at a time, while nothing else is to be done."""
        for i, draw in enumerate(roles.row.draws):
            sampling = sampling_of(self.spec.sampling, draw.decoding == "greedy")
            while draw.source == "reference":
                await asyncio.sleep(QUIET_S)
                if not self.quiet():
                    continue
                pool, version = roles.drawer(draw)
                task = self.ahead.next(pool, version, i, draw, sampling, roles.iteration)
                if task is None:
                    break
                await asyncio.wait([task])

    async def _in_turn(self, roles: IterationRoles) -> None:
        """Stage after stage over all shards, each stage with bounded work in flight."""
        for stage in STAGES:
            gate = asyncio.Semaphore(self.in_flight)
            await self.settle()

            async def one(shard: int, stage: Stage = stage, gate: asyncio.Semaphore = gate) -> None:
                async with gate:
                    if self._next_stage(roles.iteration, shard) == stage:
                        await self._make(roles, shard, stage, None)
                        await asyncio.shield(self._commits[roles.iteration, shard])

            try:
                async with asyncio.TaskGroup() as group:
                    for shard in range(self.schedule.shards(roles.iteration)):
                        group.create_task(one(shard))
            except ExceptionGroup as failed:  # what the first shard failed of, as where shards are streamed
                raise failed.exceptions[0] from failed
            if stage == "candidates":
                await asyncio.gather(*(pool.each("sleep") for pool in roles.drawers()))
