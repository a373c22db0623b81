"""The trainer's place in a run: the living actor or group, and a new incarnation from the last checkpoint when it dies."""

import asyncio
import time
from typing import Any

from ray.exceptions import RayError, RayTaskError

from xpo_ray.actors.cast import CAST, Cast
from xpo_ray.actors.constructors import refuse_unmade
from xpo_ray.actors.placement import start_actor, trainer_threads
from xpo_ray.actors.places import Places
from xpo_ray.actors.pools import cause_of, is_death
from xpo_ray.actors.trainer_group import TrainerGroup, lost_others
from xpo_ray.actors.watchdog import Deadlines, Watched
from xpo_ray.decisions import GiveUp, after_death
from xpo_ray.errors import ActorLost
from xpo_ray.plan.processes import trainer_workers
from xpo_ray.profile import Stopwatch
from xpo_ray.reporting import ActorReplaced, Reporter
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Checkpoint, Storage


class TrainerDied(Exception):
    """The trainer's process is gone; the steps since the last checkpoint are done again."""


class TrainerSeat:
    """Calls the trainer; a death raises TrainerDied once the next incarnation has been started."""

    def __init__(
        self,
        spec: RunSpec,
        storage: Storage,
        reporter: Reporter,
        prefix: str,
        watch: Stopwatch,
        places: Places,
        cast: Cast = CAST,
    ) -> None:
        self._spec = spec
        self._storage = storage
        self._reporter = reporter
        self._prefix = prefix
        self._watch = watch
        self._cast = cast
        self.places = places
        self._workers = trainer_workers(spec, places.gpus)
        self._incarnation = 0
        self._deaths = 0
        self._actor: Watched | TrainerGroup | None = None
        self._deadlines = Deadlines(spec.resources.hung_after_s)
        self._stands_at: Checkpoint | None = None
        self._fresh = True
        self._furthest = 0
        self._calls = 0

    @property
    def idle(self) -> bool:
        """Whether the trainer has nothing to do."""
        return self._calls == 0

    def launch(self, checkpoint: Checkpoint | None) -> None:
        """Start an incarnation at a checkpoint, None for the initial model."""
        name = f"{self._prefix}/trainer" + (f".{self._incarnation}" if self._incarnation else "")
        self._actor = self._alone(name, checkpoint) if self._workers == 1 else self._group(name, checkpoint)
        self._stands_at, self._fresh = checkpoint, True
        self._incarnation += 1

    def _alone(self, name: str, checkpoint: Checkpoint | None) -> Watched:
        threads, asks = trainer_threads(self._spec.resources), self.places.of("trainer", 0)
        arguments = (self._spec, self._storage, threads, checkpoint)
        handle = start_actor(self._cast.trainer, name, *arguments, threads=threads, asks=asks)
        return Watched("trainer", handle, self._deadlines)

    def _group(self, name: str, checkpoint: Checkpoint | None) -> TrainerGroup:
        workers, ranks = self._workers, []
        threads = trainer_threads(self._spec.resources, workers)
        for rank in range(workers):
            arguments = (self._spec, self._storage, threads, checkpoint, rank, workers)
            named, asks = f"{name}/{rank}", self.places.of("trainer", rank)
            handle = start_actor(self._cast.trainer_rank, named, *arguments, threads=threads, asks=asks)
            ranks.append(Watched(f"trainer/{rank}", handle, self._deadlines))
        return TrainerGroup(ranks)

    async def at(self, checkpoint: Checkpoint | None) -> str | None:
        """Make sure that the trainer stands at a checkpoint, untouched; else start one that does.

        Returns why log-probs take the plain path, None where they take the shared one. Raises PlacementFailed where the run's
        place is not to be had."""
        await self.places.ready()
        if not self._fresh or self._stands_at != checkpoint:
            self.stop()
            self.launch(checkpoint)
        ready = await self.call("ready")
        why: str | None = ready["why_plain"]
        return why

    async def call(self, method: str, *args: Any) -> Any:
        """Run a method; returns its second result. Raises what it raised, or TrainerDied."""
        _, summary = await self._call(method, args)
        return summary

    async def call_for_ref(self, method: str, *args: Any) -> Any:
        """Run a method; returns the ref of its first result."""
        ref, _ = await self._call(method, args)
        return ref

    async def _call(self, method: str, args: tuple[Any, ...]) -> tuple[Any, Any]:
        assert self._actor is not None
        self._calls += 1
        began = time.monotonic()
        try:
            ref, answer = await self._actor.call(method, args)
        except RayTaskError as error:
            if not lost_others(error):
                raise cause_of(error) from error
            await self._replace(error.cause)
            raise TrainerDied from error
        except RayError as error:
            if not is_death(error):
                raise
            refuse_unmade("the trainer", error)
            await self._replace(error)
            raise TrainerDied from error
        finally:
            self._calls -= 1
        self._watch.note("trainer", method, began, answer)
        if method == "step":
            self._stepped(args[0].total_step)
        return ref, answer

    def _stepped(self, total_step: int) -> None:
        """A step further than any before is progress; a step done again is none."""
        self._fresh = False
        if total_step > self._furthest:
            self._furthest, self._deaths = total_step, 0

    async def _replace(self, error: BaseException) -> None:
        self.stop()
        self._deaths += 1
        decision = after_death(self._deaths, self._spec.resources.max_restarts)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(decision, GiveUp):
            raise ActorLost(f"the trainer died {self._deaths} times without finishing a step: {reason}") from error
        self._reporter.emit(ActorReplaced("trainer", self._deaths, reason))
        await asyncio.sleep(decision.after_s)
        checkpoints = self._storage.checkpoints()
        self.launch(checkpoints[-1] if checkpoints else None)

    def stop(self) -> None:
        """End the actor, or all of the group."""
        if self._actor is not None:
            self._actor.kill()
