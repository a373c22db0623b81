"""The state of an attempt: where it stands, its actors, and the verbs of the main loop in driver.py.

It asks the schedule, the rates and the decisions what to do, moves object refs, and tells the reporter; it computes nothing.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from xpo_ray.actors.ahead import Ahead
from xpo_ray.actors.cast import CAST, Cast
from xpo_ray.actors.evaluator import Evaluator
from xpo_ray.actors.places import Places
from xpo_ray.actors.policy import WeightSource
from xpo_ray.actors.reading import Reader
from xpo_ray.actors.roles import Roles, Weights
from xpo_ray.actors.scheduler import Scheduler
from xpo_ray.actors.trainer_seat import TrainerSeat
from xpo_ray.actors.watchdog import Deadlines
from xpo_ray.algorithms import resets_optimizer, row_of_iteration
from xpo_ray.attempts import Attempt
from xpo_ray.crashpoints import crash_point
from xpo_ray.decisions import checkpoint_due, evaluation_due
from xpo_ray.errors import NothingLearned
from xpo_ray.evaluation.table import held_out_key
from xpo_ray.generation.engine import own_distributions
from xpo_ray.learning_watch import LearningWatch
from xpo_ray.ledger import Ledger
from xpo_ray.plan.processes import computes
from xpo_ray.plan.work import shards_in_flight
from xpo_ray.preparation import Prepared
from xpo_ray.profile import Stopwatch
from xpo_ray.rates import learning_rate
from xpo_ray.reporting import IterationPublished, IterationStarted, Reporter, RunResumed, StepDone, Warned
from xpo_ray.schedule import Schedule, Window
from xpo_ray.spec.run import at_iteration
from xpo_ray.steps import StepOrder
from xpo_ray.storage import Checkpoint, Storage

ONLINE_CHECKPOINT_STEPS = 50
SETTLE_S = 60.0
"""How long the end of an attempt waits for commits under way."""


@dataclass
class Run:
    """The state of an attempt: where it stands, and the actors that it drives."""

    prepared: Prepared
    attempt: Attempt
    reporter: Reporter
    roles: Roles
    scheduler: Scheduler
    trainer: TrainerSeat
    places: Places
    ledger: Ledger
    evaluator: Evaluator | None
    watch: LearningWatch
    iteration: int = 0
    """Iterations completed."""
    step: int = 0
    """Steps done in the iteration under way."""
    total_steps: int = 0
    checkpoint: Checkpoint | None = None
    weights: Weights | None = None
    _last_evaluated: int = 0
    _whole: bool = False
    """The trainer stands where this object says; not while a step or a restore is under way, nor after one that failed."""
    between_steps: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a step is done or an iteration published; whoever wants to stop the run takes it first."""

    @classmethod
    def of(cls, prepared: Prepared, attempt: Attempt, reporter: Reporter, watch: Stopwatch, cast: Cast = CAST) -> "Run":
        """Start the actors; they come up side by side. Raises SpecError, before any is, where the cluster lacks GPUs."""
        spec, storage = prepared.spec, attempt.storage
        prefix = f"{attempt.run_id}/{attempt.number}"
        places = Places(prefix, spec)
        trainer = TrainerSeat(spec, storage, reporter, prefix, watch, places, cast)
        trainer.launch(_latest(storage.checkpoints()))
        roles = Roles(spec, str(prepared.folder), storage, reporter, prefix, prepared.canary_ids, watch, places, cast)
        reader = Reader(storage, reporter, Deadlines(spec.resources.hung_after_s), spec.resources.max_restarts)
        scheduler = _scheduler(prepared, storage, reader, roles, trainer, reporter)
        held_out = prepared.held_out
        evaluator = Evaluator(prepared, storage, reader, roles, reporter) if held_out is not None else None
        ledger = Ledger.open(attempt.root, attempt.folder)
        learning = LearningWatch(spec.training.max_windows_without_pairs, spec.training.bonus_without_pairs)
        return cls(prepared, attempt, reporter, roles, scheduler, trainer, places, ledger, evaluator, learning)

    @property
    def schedule(self) -> Schedule:
        return self.prepared.schedule

    @property
    def evaluator_metrics(self) -> dict[int, dict[str, float | None]]:
        return self.evaluator.metrics if self.evaluator is not None else {}

    async def restore(self) -> None:
        """Take the position of the newest checkpoint, and bring the trainer there."""
        self._whole = False
        checkpoint = _latest(self.attempt.storage.checkpoints())
        why_plain = await self.trainer.at(checkpoint)
        if why_plain is not None:
            self.reporter.emit(Warned("plain_log_probs", f"prompts are not shared among responses: {why_plain}"))
        self.checkpoint = checkpoint
        self.iteration, self.step, self.total_steps = (
            (checkpoint.iteration, checkpoint.step, checkpoint.total_steps) if checkpoint else (0, 0, 0)
        )
        self.ledger.since_checkpoint.clear()
        self.watch.restarted()
        evaluated = [t for t in range(1, self.iteration + 1) if self._was_evaluated(t)]
        self._last_evaluated = self.schedule.total_steps(1, evaluated[-1]) if evaluated else 0
        self.weights = await self._published_weights()
        tables = len(self.attempt.storage.visible()["commits"])
        self._whole = True
        if checkpoint is not None or tables:
            self.reporter.emit(RunResumed(checkpoint.name if checkpoint else None, self.total_steps, tables))

    async def _published_weights(self) -> Weights:
        """The policy's weights as the iteration under way began."""
        border = self._border(self.iteration)
        if border is not None:
            return Weights(self._source(self.iteration), canary=border.canary)
        canary = await self.trainer.call("canary", self.prepared.canary_ids) if self.total_steps == 0 else None
        return Weights(self._source(0), canary=canary)

    def _border(self, iteration: int) -> Checkpoint | None:
        found = [c for c in self.attempt.storage.checkpoints() if c.step == 0 and c.iteration == iteration]
        return found[0] if found else None

    def _source(self, version: int) -> WeightSource:
        """Where a published version lies."""
        if version == 0:
            return WeightSource(0, (self.prepared.spec.model.path,))
        border = self._border(version)
        assert border is not None, f"version {version} has no checkpoint"
        return WeightSource(version, (str(self.attempt.storage.folder(border) / "model"),))

    async def begin(self, t: int) -> None:
        """Give every role its weights, start the evaluation of the model as it is now, and start drawing."""
        spec = self.prepared.spec
        assert self.weights is not None
        if self.evaluator is not None:
            await self.evaluator.drawn()
        await self._trainer_sleeps()
        roles = await self.roles.of_iteration(t, self.weights, self._source)
        row = row_of_iteration(spec.algorithm, t)
        if self.step == 0:
            await self.trainer.call("begin", resets_optimizer(spec.algorithm, t))
        rate = learning_rate(spec, self.schedule, t, 1)
        kappa = at_iteration(row.kappa, t)
        self.reporter.emit(
            IterationStarted(t, self.schedule.size(t), self.schedule.shards(t), self.schedule.steps(t), kappa, rate)
        )
        if self.evaluator is not None:
            self.evaluator.resume(self.iteration)
        if self._evaluation_due(last=False):
            self._evaluate()
        if self.places.shared and self.evaluator is not None:
            await self.evaluator.drawn()  # engines sleep from the last draw on
        await self.scheduler.begin(roles)
        if self.places.shared:
            await self.roles.sleep()

    async def _trainer_sleeps(self) -> None:
        """Before engines draw on the trainer's GPUs."""
        if self.places.shared:
            await self.trainer.call("sleep")

    async def train(self, window: Window, shards: list[Any]) -> None:
        """One step, written into the ledger; a checkpoint where one is due. Raises NothingLearned between two steps."""
        async with self._step_of_its_own():
            await self._train(window, shards)
        if (why := self.watch.why_pause) is not None:
            raise NothingLearned(why)

    async def _train(self, window: Window, shards: list[Any]) -> None:
        spec = self.prepared.spec
        row = row_of_iteration(spec.algorithm, window.iteration)
        rate = learning_rate(spec, self.schedule, window.iteration, window.step)
        kappa, own = at_iteration(row.kappa, window.iteration), own_distributions(row, spec.sampling)
        order = StepOrder(window, self.total_steps + 1, rate, kappa, row, own)
        result = await self.trainer.call("step", order, *shards)
        await self.scheduler.committed(window.slices)
        self.step, self.total_steps = window.step, self.total_steps + 1
        parent = self.checkpoint.name if self.checkpoint else None
        replayed = self.ledger.enter(window.iteration, window.step, result.pairs, parent, skipped=result.skipped)
        crash_point("step.after_ledger")
        self.reporter.emit(
            StepDone(window.iteration, window.step, self.total_steps, result.metrics, result.seconds, replayed)
        )
        self._warn(self.watch.step(result.metrics))
        if window.step < self.schedule.steps(window.iteration) and self._checkpoint_due(border=False):
            await self._save(window.iteration - 1, window.step, optimizer=True)

    async def publish(self, t: int) -> None:
        """The border of an iteration: a checkpoint, or in a fully online run mostly an object ref."""
        async with self._step_of_its_own():
            await self._publish(t)

    async def _publish(self, t: int) -> None:
        self.iteration, self.step = t, 0
        if not self.prepared.spec.online or t == self.schedule.partitions:  # there each window is an iteration
            self._warn(self.watch.iteration_over())
        canary = await self.trainer.call("canary", self.prepared.canary_ids)
        if self._checkpoint_due(border=True) or self._evaluation_is_of_checkpoint(t):
            await self._save(t, 0, optimizer=self._carries_on(t), canary=canary)
            self.weights = Weights(self._source(t), canary=canary)
        else:
            ref = await self.trainer.call_for_ref("weights")
            self.weights = Weights(WeightSource(t), ref, canary)
        path = self.weights.source.paths[0] if self.weights.source.paths else None
        name = self.checkpoint.name if self.checkpoint and path else None
        self.reporter.emit(IterationPublished(t, self.total_steps, name, path))
        crash_point("iteration.after_publish")

    async def finish(self) -> None:
        """Evaluate the last model, and wait for all evaluations."""
        self._warn(self.watch.run_over())
        if self.evaluator is None:
            return
        assert self.weights is not None
        await self.evaluator.drawn()
        await self._trainer_sleeps()
        self.evaluator.resume(self.iteration)
        if self.roles.policy is not None:
            await self.roles.hold(self.roles.policy, self.weights)
        if self.roles.base is not None:
            await self.roles.hold(self.roles.base, Weights(self._source(0)))
        self._evaluate()
        await self.evaluator.finish()

    @asynccontextmanager
    async def _step_of_its_own(self) -> AsyncIterator[None]:
        """What nobody may interrupt; left with an exception, the trainer stands nowhere that this object knows."""
        async with self.between_steps:
            self._whole = False
            yield
            self._whole = True

    async def pause(self) -> None:
        """Begin nothing new, let what is under way be committed, and keep the steps since the last checkpoint."""
        self.roles.refuse()
        await self.scheduler.drain(SETTLE_S)
        await self.settle()
        if self._whole and self.total_steps > (self.checkpoint.total_steps if self.checkpoint else 0):
            if self.places.shared:
                self.roles.stop()  # the trainer may have to wake on the GPUs that engines are awake on
            await self._save(self.iteration, self.step, optimizer=self.step > 0 or self._carries_on(self.iteration))

    async def settle(self) -> None:
        """Let what was made be committed before the actors end."""
        self.scheduler.stop()
        with suppress(TimeoutError):
            await asyncio.wait_for(self.scheduler.settle(), SETTLE_S)

    def stop(self) -> None:
        """End all actors, and give back what the run held."""
        self.scheduler.stop()
        self.scheduler.ahead.stop()
        self.trainer.stop()
        self.roles.stop()
        self.places.remove()

    def _was_evaluated(self, iteration: int) -> bool:
        return self.attempt.storage.find(held_out_key(self.prepared.held_out_id, "drawn", iteration, 0)) is not None

    def _evaluate(self) -> None:
        if self.evaluator is not None:
            self.evaluator.start(self.iteration)
            self._last_evaluated = self.total_steps

    def _evaluation_due(self, *, last: bool) -> bool:
        spec = self.prepared.spec
        return self.iteration == 0 or evaluation_due(
            self.total_steps, self._last_evaluated, spec.evaluation.every_steps, online=spec.online, last=last
        )

    def _evaluation_is_of_checkpoint(self, t: int) -> bool:
        """`select: best` needs the weights of every model that is evaluated."""
        return self.evaluator is not None and self._evaluation_due(last=t == self.schedule.partitions)

    def _checkpoint_due(self, *, border: bool) -> bool:
        spec = self.prepared.spec
        every = spec.training.checkpoint_every_steps or (ONLINE_CHECKPOINT_STEPS if spec.online else None)
        since = self.total_steps - (self.checkpoint.total_steps if self.checkpoint else 0)
        last = self.iteration == self.schedule.partitions
        return checkpoint_due(since, every, border=border, online=spec.online, last=border and last)

    def _carries_on(self, t: int) -> bool:
        """Whether the next iteration goes on with this one's optimizer."""
        following = t + 1
        return following <= self.schedule.partitions and not resets_optimizer(self.prepared.spec.algorithm, following)

    async def _save(self, iteration: int, step: int, *, optimizer: bool, canary: float | None = None) -> None:
        if canary is None:
            canary = await self.trainer.call("canary", self.prepared.canary_ids)
        draft = Checkpoint(
            name=f"iteration-{iteration:04d}-step-{step:06d}",
            path="",
            iteration=iteration,
            step=step,
            total_steps=self.total_steps,
            parent=self.checkpoint.name if self.checkpoint else None,
            canary=canary,
            ledger=self.ledger.cut(),
            files={},
        )
        before, self.checkpoint = self.checkpoint, await self.trainer.call("publish", draft, optimizer)
        if before is not None and before.step != 0:
            await asyncio.to_thread(self.attempt.storage.drop, before)

    def _warn(self, warnings: list[Warned]) -> None:
        for warned in warnings:
            self.reporter.emit(warned)


def _scheduler(
    prepared: Prepared, storage: Storage, reader: Reader, roles: Roles, trainer: TrainerSeat, reporter: Reporter
) -> Scheduler:
    spec, schedule = prepared.spec, prepared.schedule
    assert spec.seed is not None
    bound = shards_in_flight(spec, os.cpu_count() or 1, trainer.places.gpus)

    def prompts(iteration: int, shard: int) -> pa.Table:
        return prepared.prompts.take(schedule.shard_prompts(iteration, shard))

    waits = spec.judge is None or not computes(spec.judge)  # a judge that computes leaves no core free

    def quiet() -> bool:
        return (
            waits and trainer.idle and all(p.idle for p in (roles.policy, roles.base, roles.reference) if p is not None)
        )

    ahead = Ahead(schedule, spec.online, spec.seed, schedule.shards(1) if spec.online else bound, prompts)
    return Scheduler(spec, schedule, prompts, storage, reader, roles.clerk, reporter, bound, ahead, quiet)


def _latest(checkpoints: list[Checkpoint]) -> Checkpoint | None:
    return checkpoints[-1] if checkpoints else None
