"""The actors of a run: which pools it needs, which weights each holds in an iteration, and that they hold the right ones.

policy      π_{t-1}; also the reference where the reference is the previous iterate
base        π_0: the fixed reference, and what evaluation compares with
            with an adapter it is the policy's pool: a model with its adapter off is the base
reference   only where it is neither: an average (EMA), or fixed after a warm-up
clerk       lays draws together and publishes tables
judge       the run's judge; evaluation has a pool of its own where it has a judge of its own
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xpo_ray.actors.cast import CAST, Cast
from xpo_ray.actors.placement import start_actor
from xpo_ray.actors.places import Places
from xpo_ray.actors.policy import WeightSource
from xpo_ray.actors.pools import Pool
from xpo_ray.actors.scheduler import IterationRoles
from xpo_ray.actors.watchdog import Deadlines, Watched
from xpo_ray.algorithms import Row, reference_version, row_of_iteration
from xpo_ray.canary import Examined, canary_fault
from xpo_ray.decisions import canary_agrees
from xpo_ray.errors import CanaryMismatch
from xpo_ray.plan.processes import engine_threads, judge_replicas, lanes, pool_sizes
from xpo_ray.profile import Stopwatch
from xpo_ray.reporting import Reporter, WeightsServed
from xpo_ray.spec.judge import JudgeSpec
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Storage

Asks = dict[str, Any]
Start = Callable[[str, Asks], Any]
"""(name, options of Ray) → a role's actor."""
Examine = Callable[[], Awaitable[list[Examined]]]
"""→ what the replicas that have answered see of their weights."""


@dataclass(frozen=True)
class Weights:
    """A version of the weights: where it is, and what the trainer's canary said of it (None: not known)."""

    source: WeightSource
    ref: Any = None
    canary: float | None = None


class Roles:
    """All pools of a run."""

    def __init__(
        self,
        spec: RunSpec,
        folder: str,
        storage: Storage,
        reporter: Reporter,
        prefix: str,
        canary_ids: Sequence[int],
        watch: Stopwatch,
        places: Places,
        cast: Cast = CAST,
    ) -> None:
        self.spec = spec
        self.reporter = reporter
        self.canary_ids = tuple(canary_ids)
        self._holds: dict[str, Weights] = {}
        cores = os.cpu_count() or 1
        sizes = pool_sizes(spec, cores, places.gpus)

        def pool(role: str, size: int, start: Start, longest_s: float = 0.0, lanes: int = 1) -> Pool:
            restarts, deadlines = spec.resources.max_restarts, Deadlines(spec.resources.hung_after_s, longest_s)

            def started(name: str, index: int) -> Any:
                return start(f"{prefix}/{name}", places.of(role, index))

            made = Pool(role, size, started, reporter, restarts, deadlines, watch, lanes)
            made.launch()
            return made

        at_once = lanes(spec)
        threads = engine_threads(spec, cores, places.gpus)

        def model(role: str) -> Pool | None:
            if not sizes[role]:
                return None

            def start(name: str, asks: Asks) -> Any:
                return start_actor(cast.model, name, spec, threads, threads=threads, lanes=at_once, asks=asks)

            return pool(role, sizes[role], start, lanes=at_once)

        def judge(role: str, size: int, of: JudgeSpec | None) -> Pool:
            longest_s = of.longest_s(spec.data.shard_size) if of is not None else 0.0
            secrets = of.secrets() if of is not None else ()

            def start(name: str, asks: Asks) -> Any:
                return start_actor(cast.judge, name, of, folder, pulse=longest_s > 0, secrets=secrets, asks=asks)

            return pool(role, size, start, longest_s)

        self.policy = model("policy")
        self.base = self.policy if spec.model.lora else model("base")
        self.reference = model("reference")
        self.clerk = pool("clerk", 1, lambda name, asks: start_actor(cast.clerk, name, storage, asks=asks))
        self.judge = judge("judge", judge_replicas(spec, cores, places.gpus), spec.judge)
        own = spec.data.evaluation is not None and spec.evaluation.judge is not None
        self.evaluation_judge = judge("evaluation-judge", 1, spec.evaluation.judge) if own else self.judge
        for each in (self.policy, self.base, self.reference):
            if each is not None:
                each.prepare = self._preparer(each.role)

    async def hold(self, pool: Pool, weights: Weights) -> None:
        """Bring a pool to a version of the weights, and check that each replica serves it. Raises CanaryMismatch.

        With an adapter a pool that holds any version serves version 0 beside it.
        """
        before = self._holds.get(pool.role)
        if before is not None and before.source == weights.source and before.ref is weights.ref:
            return
        if before is not None and self.spec.model.lora is not None and weights.source.version == 0:
            return
        self._holds[pool.role] = weights
        answers = await pool.each("load", weights.source, weights.ref, self.canary_ids)
        await self._check(pool.role, weights, answers, partial(pool.each, "examined", self.canary_ids))

    async def of_iteration(
        self, iteration: int, policy: Weights, published: Callable[[int], WeightSource]
    ) -> IterationRoles:
        """The roles of an iteration, each with its weights; `published(v)` says where version v lies."""
        row = row_of_iteration(self.spec.algorithm, iteration)
        version = reference_version(row, iteration, self.spec.algorithm.warmup_iterations)
        if self.policy is not None:
            await self.hold(self.policy, policy)
        if self.base is not None:
            await self.hold(self.base, Weights(published(0)))
        pool = self._reference_pool(row, version)
        if pool is self.reference:
            await self.hold(pool, Weights(self._reference_source(row, version, published)))
        ahead = row.reference == "fixed"
        return IterationRoles(iteration, row, self.policy, iteration - 1, pool, version, self.judge, ahead)

    async def _examined(self, actor: Watched) -> list[Examined]:
        _, examined = await actor.call("examined", (self.canary_ids,))
        return [examined]

    def _reference_pool(self, row: Row, version: int) -> Pool:
        if row.reference == "previous":
            pool = self.policy
        elif row.reference == "fixed" and version == 0:
            pool = self.base
        else:
            pool = self.reference
        assert pool is not None
        return pool

    def _reference_source(self, row: Row, version: int, published: Callable[[int], WeightSource]) -> WeightSource:
        if row.reference == "ema":
            paths = tuple(published(v).paths[0] for v in range(version + 1))
            return WeightSource(version, paths, row.ema_decay)
        return published(version)

    def _preparer(self, role: str) -> Callable[[Watched], Awaitable[None]]:
        async def prepare(actor: Watched) -> None:
            if (weights := self._holds.get(role)) is not None:
                _, answer = await actor.call("load", (weights.source, weights.ref, self.canary_ids))
                await self._check(role, weights, [answer], partial(self._examined, actor))

        return prepare

    async def _check(self, role: str, weights: Weights, answers: Sequence[float], examine: Examine) -> None:
        version, dtype = weights.source.version, self.spec.model.dtype
        for place, answer in enumerate(answers):
            if weights.canary is not None and not canary_agrees(answer, weights.canary, dtype):
                examined = (await examine())[place]
                same = canary_agrees(examined.plain, weights.canary, dtype)
                raise CanaryMismatch(
                    f"{role} gives the canary text {answer:.6f} nats per token under version {version}, the trainer gave "
                    f"{weights.canary:.6f}: {canary_fault(answer, weights.canary, examined, same=same)}"
                )
        engine = self.spec.sampling.engine
        self.reporter.emit(WeightsServed(role, version, engine, len(answers), answers[0], weights.canary))

    async def sleep(self) -> None:
        """Leave the GPUs that engines share with others to those; the next call of an engine wakes it."""
        engines = {id(p): p for p in (self.policy, self.base, self.reference) if p is not None}
        await asyncio.gather(*(pool.each("sleep") for pool in engines.values()))

    async def ready(self) -> None:
        """Wait until every process is up and has loaded what it needs before its first work."""
        for pool in {id(p): p for p in (self.judge, self.evaluation_judge, self.clerk)}.values():
            await pool.each("ready")

    def refuse(self) -> None:
        """Begin no further draws, judgements and log-probs; the clerk goes on, so that what is made is committed."""
        for pool in self._pools():
            if pool is not self.clerk:
                pool.refuse()

    def stop(self) -> None:
        """End all actors."""
        for pool in self._pools():
            pool.stop()

    def _pools(self) -> list[Pool]:
        pools = (self.policy, self.base, self.reference, self.judge, self.evaluation_judge, self.clerk)
        return list({id(p): p for p in pools if p is not None}.values())
