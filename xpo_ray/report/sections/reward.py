"""Held-out reward and win rates by iteration, the base as iteration 0."""

import numpy as np

from xpo_ray.report.blocks import Block, Figure, Note, Row, Section, Table
from xpo_ray.report.charts import Line, intervals
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.series import Floats, spread
from xpo_ray.report.wording import fixed, percent

MAX_POINTS = 400
MAX_ROWS = 40
Evaluations = dict[int, dict[str, float | None]]


def reward(run: RunFolder, other: RunFolder | None) -> Section:
    """Reward, win rates, and the table behind them."""
    lead = "What the judge gives to the responses to held-out prompts that no step was trained on."
    if not run.history.evaluations:
        return Section("reward", "Reward by iteration", lead, (Note(why_not_evaluated(run)),))
    figures = [f for f in (_rewards(run, _comparable(run, other)), _wins(run.history.evaluations)) if f is not None]
    blocks: list[Block] = [Row(tuple(figures))] if figures else []
    if not _has(run.history.evaluations, "reward"):
        blocks.append(Note(why_no_scores(run)))
    blocks.append(_table(run.history.evaluations))
    if other is not None and _comparable(run, other) is None:
        why = f"{other.name} was not evaluated on the same held-out prompts in the same way; it is not drawn here."
        blocks.append(Note(why))
    return Section("reward", "Reward by iteration", lead, tuple(blocks))


def why_not_evaluated(run: RunFolder) -> str:
    """Why there are no held-out numbers at all."""
    if run.spec["data"]["evaluation"] is None:
        return "The spec names no held-out prompts (data.evaluation), so nothing was evaluated."
    if run.history.evaluations:
        return "The journal tells of evaluations, but their committed tables are not in this folder."
    return "No evaluation has ended yet."


def why_no_scores(run: RunFolder) -> str:
    """Why held-out responses have no scores."""
    if not run.history.evaluations:
        return why_not_evaluated(run)
    if run.spec["judge"] is None and run.spec["evaluation"]["judge"] is None:
        return "The spec names no judge, so held-out responses have no scores."
    return "The judge gave no scores to held-out responses; it compares them, or failed on all."


def _comparable(run: RunFolder, other: RunFolder | None) -> RunFolder | None:
    """The other run, where it was evaluated as this one was."""
    if other is None or other.tables.held_out_id != run.tables.held_out_id:
        return None
    return other if _has(other.history.evaluations, "reward") else None


def _has(evaluations: Evaluations, name: str) -> bool:
    return any(m.get(name) is not None for m in evaluations.values())


def _rewards(run: RunFolder, other: RunFolder | None) -> Figure | None:
    if not _has(run.history.evaluations, "reward"):
        return None
    series = [_line(run.name, run.history.evaluations, "reward", "@draw")]
    if other is not None:
        series.append(_line(f"{other.name} (other run)", other.history.evaluations, "reward", "@judge", dash="dash"))
    ticks = sorted({t for s in series for t in s.x.tolist()})
    chart = intervals(series, "iteration", "mean score of the judge", ticks=ticks)
    reading = "Each point is the mean score of a model's responses with its 95 % interval; iteration 0 is the base."
    return Figure("Held-out reward", reading, chart)


def _wins(evaluations: Evaluations) -> Figure | None:
    lines = [
        _line(f"against the {name}", evaluations, f"win_rate/{key}", colour)
        for name, key, colour in _RIVALS
        if _has(evaluations, f"win_rate/{key}")
    ]
    if not lines:
        return None
    ticks = sorted({t for line in lines for t in line.x.tolist()})
    chart = intervals(lines, "iteration", "share of prompts won", ticks=ticks, percent=True)
    chart["layout"]["yaxis"]["range"] = [0, 1]
    reading = (
        "Above 50 % the model's response was preferred more often than its rival's; a tie counts half (Wilson 95 %)."
    )
    return Figure("Win rate", reading, chart)


_RIVALS = (("base", "base", "@draw"), ("previous iterate", "previous", "@reference"))


def _line(name: str, evaluations: Evaluations, key: str, colour: str, dash: str = "solid") -> Line:
    known = spread([t for t in sorted(evaluations) if evaluations[t].get(key) is not None], MAX_POINTS)
    mean, low, high = (_column(evaluations, known, k) for k in (key, f"{key}/low", f"{key}/high"))
    return Line(name, np.array(known, dtype=np.float64), mean, colour, low, high, dash)


def _column(evaluations: Evaluations, iterations: list[int], key: str) -> Floats:
    values = [evaluations[t].get(key) for t in iterations]
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _table(evaluations: Evaluations) -> Table:
    head = (
        "iteration",
        "reward",
        "95 %",
        "gain",
        "95 %",
        "wins vs base",
        "wins vs previous",
        "tokens",
        "ended",
        "KL, nats",
    )
    shown = spread(sorted(evaluations), MAX_ROWS)
    caption = (
        "" if len(shown) == len(evaluations) else f"{len(shown)} of {len(evaluations)} evaluations, evenly spaced."
    )
    return Table(head, tuple(_row(t, evaluations[t]) for t in shown), caption)


def _row(t: int, m: dict[str, float | None]) -> tuple[str, ...]:
    def span(name: str) -> str:
        low, high = m.get(f"{name}/low"), m.get(f"{name}/high")
        return "–" if low is None or high is None else f"{fixed(low)} to {fixed(high)}"

    return (
        "0 (base)" if t == 0 else str(t),
        fixed(m.get("reward")),
        span("reward"),
        fixed(m.get("gain")),
        span("gain"),
        percent(m.get("win_rate/base")),
        percent(m.get("win_rate/previous")),
        fixed(m.get("length"), 1),
        percent(m.get("eos_rate")),
        fixed(m.get("kl/k1")),
    )
