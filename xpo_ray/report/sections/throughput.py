"""How fast each stage worked and when: rates over the time in which a stage was busy, and a time line."""

from xpo_ray.report.blocks import Block, Figure, Note, Section, Table
from xpo_ray.report.charts import MAX_RULES, STAGE_COLOURS, timeline
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.history import STAGES, StageLog
from xpo_ray.report.series import merged, spread, total
from xpo_ray.report.wording import duration, number

NAMES = {
    "candidates": "draw",
    "preferences": "judge",
    "scored": "reference log-probs",
    "train": "train",
    "held-out": "evaluation",
}
SPANS = 400
MAX_ITERATIONS = 6


def throughput(run: RunFolder, _other: RunFolder | None) -> Section:
    """A table of rates and a time line."""
    history = run.history
    lead = (
        "Stages overlap: a stage is busy while at least one of its shards or steps is under way, queueing for an actor "
        "included, and its rates are over that time."
    )
    stages = {name: history.stages[name] for name in STAGES if history.stages[name].spans}
    if not stages:
        return Section("throughput", "Throughput", lead, (Note("No stage has finished a shard yet."),))
    head = ("stage", "busy", "of the run", "prompts", "prompts/s", "tokens", "tokens/s")
    rows = tuple(_row(run, name, stage) for name, stage in stages.items())
    caption = (
        "Tokens are those of responses: drawn by draw and evaluation, trained on by train, and as many per prompt for the "
        "reference; for the judge they are estimated from the committed candidates."
    )
    blocks: list[Block] = [Table(head, rows, caption), _timeline(run, stages)]
    return Section("throughput", "Throughput", lead, tuple(blocks))


def _row(run: RunFolder, name: str, stage: StageLog) -> tuple[str, ...]:
    busy = total(stage.spans)
    tokens = stage.tokens or _tokens_per_prompt(run, name) * stage.prompts
    return (
        _name(run, name),
        duration(busy),
        f"{100 * busy / max(run.history.seconds, 1e-9):.0f} %",
        f"{stage.prompts:,.0f}",
        number(stage.prompts / busy) if busy and stage.prompts else "–",
        f"{tokens:,.0f}" if tokens else "–",
        number(tokens / busy) if busy and tokens else "–",
    )


def _name(run: RunFolder, stage: str) -> str:
    """What a stage does in this run; where nobody draws, pairs are collected and taken as given."""
    given = {"candidates": "collect pairs", "preferences": "take pairs as given"}
    return NAMES[stage] if run.history.stages["candidates"].tokens else given.get(stage, NAMES[stage])


def _tokens_per_prompt(run: RunFolder, stage: str) -> float:
    """Mean response tokens that a stage read per prompt, where its events do not tell; 0 where it is not known."""
    stages = run.history.stages
    if stage == "scored":
        return stages["train"].tokens / max(stages["train"].prompts, 1.0)
    if stage == "preferences" and stages["candidates"].tokens:
        scores = [run.tables.scores(t) for t in spread(run.tables.training_iterations, MAX_ITERATIONS)]
        return sum(s.tokens for s in scores) / max(sum(s.read for s in scores), 1)
    return 0.0


def _timeline(run: RunFolder, stages: dict[str, StageLog]) -> Figure:
    start = run.history.attempts[0].started
    whole = run.history.attempts[-1].ended - start
    rows = [
        (
            _name(run, name),
            [(a - start, b - start) for a, b in merged(stage.spans, gap=whole / SPANS)],
            STAGE_COLOURS[name],
        )
        for name, stage in stages.items()
    ]
    begins = [e["at"] - start for e in run.history.iterations.values()]
    rules = begins if len(begins) <= MAX_RULES else []
    reading = "Bars are times at which a stage had work; where they stand above each other, stages overlapped."
    return Figure("Time line", reading, timeline(rows, rules, whole))
