"""The driver: one attempt at a run, from its prepared input to the published result.

    partition t ──shards──► scheduler ──SCORED refs──► trainer ──checkpoint──► π_t: new reference, new weights, evaluation

`iterate` is the main loop. The driver decides nothing about learning: it asks the schedule, the rates and the decisions, and
moves object refs. Whatever must survive it is in storage.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xpo_ray.actors.cast import CAST, Cast
from xpo_ray.actors.placement import Cluster, check_gpus, connect_run, starts_ray
from xpo_ray.actors.ray_start import session_folder
from xpo_ray.actors.run import Run
from xpo_ray.actors.trainer_seat import TrainerDied
from xpo_ray.attempts import Attempt, check_output, open_attempt
from xpo_ray.errors import NeedsAttention, RunFailed, Stopped, Superseded, UserError
from xpo_ray.exports.checks import check_exports
from xpo_ray.exports.reporter import ExportReporter
from xpo_ray.gguf_files import origin_of
from xpo_ray.orders import Orders
from xpo_ray.plan import local_store
from xpo_ray.preparation import Prepared
from xpo_ray.profile import PROFILE, Stopwatch
from xpo_ray.report.ending import report_ended
from xpo_ray.report.page import FILE_NAME
from xpo_ray.reporting import DataRead, Journal, Reporter, RunFinished, RunStarted, Tee, Warned
from xpo_ray.results import Result, finish_run, read_result
from xpo_ray.storage import replace_file, to_json


async def iterate(run: Run) -> None:
    """π_0 → π_1 → … → π_T: the main loop, from where the last checkpoint stands."""
    await run.restore()
    for t in range(run.iteration + 1, run.schedule.partitions + 1):
        await run.begin(t)
        for window in run.schedule.windows(t, after_step=run.step):
            shards = await run.scheduler.tables(window.slices)
            await run.train(window, shards)
        await run.publish(t)
    await run.finish()


def run_foreground(
    prepared: Prepared, *, resume: bool, reporter: Reporter, profile: bool = False, cast: Cast = CAST
) -> Result:
    """Run to the end in this process, on the Ray of the spec's resources. Raises UserError before anything is written,
    RunFailed afterwards.

    With `profile` the attempt's folder gets profile.json: where each second of each role went."""
    spec = prepared.spec
    root = Path(spec.output.path)
    check_exports(spec.exports)
    check_gpus(spec)
    if starts_ray(spec.resources):
        session_folder()
    check_output(root, prepared.identity, resume=resume, remarks=prepared.remarks)
    if (finished := read_result(root)) is not None:
        return finished
    plain = spec.model_dump(mode="json")
    attempt = open_attempt(root, prepared.identity, plain, prepared.record, resume=resume, remarks=prepared.remarks)
    joined = partial(connect_run, spec, attempt.run_id, _store(prepared))
    try:
        return run_attempt(prepared, attempt, reporter, joined, Orders(), profile=profile, cast=cast)
    except UserError as error:
        raise RunFailed(str(error)) from error
    finally:
        attempt.close()


def _store(prepared: Prepared) -> int | None:
    """Bytes for the object store of a Ray that is started for the run; None for Ray's default, or where it joins one."""
    if not starts_ray(prepared.spec.resources):
        return None
    held_out = 0 if prepared.held_out is None else prepared.held_out.table.num_rows
    return local_store(prepared.spec, prepared.schedule.prompts, held_out)


def run_attempt(
    prepared: Prepared,
    attempt: Attempt,
    reporter: Reporter,
    connected: Callable[[], Cluster],
    orders: Orders,
    *,
    profile: bool = False,
    cast: Cast = CAST,
) -> Result:
    """An attempt that is entered, to its end. Raises RunFailed, UserError, or Stopped where the orders say so."""
    journal = Journal(attempt.folder / "journal.jsonl", attempt.number)
    started = time.monotonic()
    exports = ExportReporter.of(prepared, attempt, tell=Tee([journal, reporter]))
    reporters = Tee([journal, reporter, exports])
    try:
        prepared = prepared.keep(attempt.root)
        for code, message in prepared.warnings.items():
            reporters.emit(Warned(code, message))
        cluster = connected()
        try:
            return asyncio.run(_attempt(prepared, attempt, cluster, reporters, orders, profile, cast))
        finally:
            cluster.close()
    except BaseException as error:
        if not isinstance(error, Superseded):
            reporters.emit(_ended(error, time.monotonic() - started))
        raise
    finally:
        if orders.wanted != "superseded":
            report_ended(attempt.root, reporters, attempt.result_folder / FILE_NAME)
        exports.close()
        journal.close()


def _ended(error: BaseException, seconds: float) -> RunFinished:
    """What is told of an attempt that did not succeed."""
    if isinstance(error, Stopped):
        return RunFinished(type(error).__name__.lower(), seconds, 0)
    if isinstance(error, NeedsAttention):
        return RunFinished("paused", seconds, 0, error=str(error))
    told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return RunFinished("failed", seconds, 0, error=told)


async def _attempt(
    prepared: Prepared,
    attempt: Attempt,
    cluster: Cluster,
    reporter: Reporter,
    orders: Orders,
    profile: bool,
    cast: Cast,
) -> Result:
    started = time.monotonic()
    schedule = prepared.schedule
    reporter.emit(
        RunStarted(attempt.run_id, attempt.number, schedule.partitions, schedule.total_steps(), cluster.dashboard)
    )
    for name, read in (("source", prepared.prompts), ("evaluation", prepared.held_out)):
        if read is not None:
            reporter.emit(DataRead(name, **read.counts()))
    if (origin := origin_of(prepared.spec.model.path)) is not None:
        reporter.emit(Warned("dequantised", origin))
    watch = Stopwatch([] if profile else None)
    run = Run.of(prepared, attempt, reporter, watch, cast)
    try:
        await obey(run, orders)
        result = await asyncio.to_thread(finish_run, prepared, attempt, run.evaluator_metrics)
        seconds = time.monotonic() - started
        reporter.emit(RunFinished("succeeded", seconds, run.ledger.replayed, str(result.model)))
        return result
    finally:
        if orders.wanted != "superseded":
            await run.settle()
        run.stop()
        if (profiled := watch.profile()) is not None:
            replace_file(attempt.folder / PROFILE, to_json(profiled.to_json()))


async def obey(run: Run, orders: Orders) -> None:
    """The main loop, until it ends or another order comes; then Paused, Cancelled or Superseded is raised.

    A step under way is finished first, unless the attempt was superseded: then it is left at once. Where the loop ends
    because a user must see to something (a judge out of reach, no pair to learn from), what is under way is kept as for a
    pause."""
    work, order = asyncio.create_task(_iterate(run)), asyncio.create_task(orders.surpass("run"))
    try:
        await asyncio.wait({work, order}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if orders.wanted != "superseded":
            await _between_steps(run, orders, work)
        if work.done() and not work.cancelled():
            return work.result()
        if orders.wanted == "pause":
            await run.pause()
        raise orders.stopped()
    except NeedsAttention:
        if orders.wanted != "superseded":
            await run.pause()
        raise
    finally:
        for task in (work, order):
            task.cancel()
        await asyncio.gather(work, order, return_exceptions=True)


async def _between_steps(run: Run, orders: Orders, work: "asyncio.Task[None]") -> None:
    """Stop the main loop where no step is under way."""

    async def stop() -> None:
        async with run.between_steps:
            work.cancel()
        await asyncio.wait({work})

    stopping, worse = asyncio.create_task(stop()), asyncio.create_task(_superseded(orders))
    await asyncio.wait({stopping, worse}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, worse):
        task.cancel()


async def _superseded(orders: Orders) -> None:
    while orders.wanted != "superseded":
        await orders.surpass(orders.wanted)


async def _iterate(run: Run) -> None:
    """The main loop again, from the last checkpoint, after each death of the trainer."""
    while True:
        try:
            return await iterate(run)
        except TrainerDied:
            run.scheduler.stop()
