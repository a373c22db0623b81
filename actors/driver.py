"""The driver: one attempt at a run, from its prepared input to the published result.

    partition t ──shards──► scheduler ──SCORED refs──► trainer ──checkpoint──► π_t: new reference, new weights, evaluation

`iterate` is the main loop. The driver decides nothing about learning: it asks the schedule, the rates and the decisions, and
moves object refs. Whatever must survive it is in storage.
"""

import asyncio
import time
from pathlib import Path

from xpo_ray.actors.cast import CAST, Cast
from xpo_ray.actors.placement import Cluster, connect
from xpo_ray.actors.run import Run
from xpo_ray.actors.trainer_seat import TrainerDied
from xpo_ray.attempts import Attempt, check_output, open_attempt
from xpo_ray.exports.checks import check_exports
from xpo_ray.exports.reporter import ExportReporter
from xpo_ray.preparation import Prepared
from xpo_ray.profile import PROFILE, Stopwatch
from xpo_ray.report.ending import report_ended
from xpo_ray.reporting import DataRead, Journal, Reporter, RunFinished, RunStarted, Tee
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
    """Run to the end in this process, on the Ray of the spec's resources. Raises RunFailed or UserError.

    With `profile` the attempt's folder gets profile.json: where each second of each role went."""
    spec = prepared.spec
    root = Path(spec.output.path)
    check_exports(spec.exports)
    check_output(root, prepared.identity, resume=resume)
    if (finished := read_result(root)) is not None:
        return finished
    attempt = open_attempt(root, prepared.identity, spec.model_dump(mode="json"), prepared.record, resume=resume)
    journal = Journal(attempt.folder / "journal.jsonl", attempt.number)
    started = time.monotonic()
    exports = ExportReporter.of(prepared, attempt, tell=Tee([journal, reporter]))
    reporters = Tee([journal, reporter, exports])
    try:
        prepared = prepared.keep(root)
        cluster = connect(spec.resources, attempt.run_id)
        try:
            return asyncio.run(_attempt(prepared, attempt, cluster, reporters, started, profile, cast))
        finally:
            cluster.close()
    except BaseException as error:
        told = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
        reporters.emit(RunFinished("failed", time.monotonic() - started, 0, error=told))
        raise
    finally:
        report_ended(root, reporters)
        exports.close()
        journal.close()
        attempt.close()


async def _attempt(
    prepared: Prepared,
    attempt: Attempt,
    cluster: Cluster,
    reporter: Reporter,
    started: float,
    profile: bool,
    cast: Cast,
) -> Result:
    schedule = prepared.schedule
    reporter.emit(
        RunStarted(attempt.run_id, attempt.number, schedule.partitions, schedule.total_steps(), cluster.dashboard)
    )
    for name, read in (("source", prepared.prompts), ("evaluation", prepared.held_out)):
        if read is not None:
            reporter.emit(DataRead(name, **read.counts()))
    watch = Stopwatch([] if profile else None)
    run = Run.of(prepared, attempt, reporter, watch, cast)
    try:
        while True:
            try:
                await iterate(run)
                break
            except TrainerDied:
                run.scheduler.stop()
        result = await asyncio.to_thread(finish_run, prepared, attempt, run.evaluator_metrics)
        seconds = time.monotonic() - started
        reporter.emit(RunFinished("succeeded", seconds, run.ledger.replayed, str(result.model)))
        return result
    finally:
        await run.settle()
        run.stop()
        if (profiled := watch.profile()) is not None:
            replace_file(attempt.folder / PROFILE, to_json(profiled.to_json()))
