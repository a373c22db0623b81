"""The headline: how the run ended and what it gained."""

from typing import Any

import numpy as np

from xpo_ray.report.blocks import Note, Section, Tile, Tiles
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.unlearned import unlearned
from xpo_ray.report.wording import counted, duration, number, percent, signed

STATUS = {
    "succeeded": "The run has succeeded.",
    "failed": "The run has failed; what was committed stays, and `xpo-ray run SPEC --resume` goes on from there.",
    "running": "The run is running; this page shows what was committed when it was made.",
    "paused": "The run is paused; `xpo-ray run SPEC --resume`, or resuming it at its service, goes on from its last commit.",
    "cancelled": "The run was cancelled; what was committed stays.",
    "stopped": "The run was stopped before its end; `xpo-ray run SPEC --resume` goes on from its last commit.",
}


def headline(run: RunFolder, _other: RunFolder | None) -> Section:
    """Status, reward against the base, work and waste."""
    history = run.history
    selected = run.result.selected if run.result else max(history.evaluations, default=0)
    metrics = history.evaluations.get(selected, {})
    tiles = (_reward(history.evaluations, selected), _gain(metrics), _wins(metrics), *_work(run))
    notes = [Note(a.error) for a in history.attempts[-1:] if a.error]
    lead = STATUS[run.status]
    if run.result and run.result.selected != history.total_iterations:
        lead += f" Iteration {run.result.selected} was selected as the best of {history.total_iterations}."
    return Section("headline", "Headline", lead, (*unlearned(run), Tiles(tiles), *notes))


def _reward(evaluations: dict[int, dict[str, float | None]], selected: int) -> Tile:
    metrics = evaluations.get(selected, {})
    if metrics.get("reward") is None:
        return Tile("Held-out reward", "–", "no held-out scores yet")
    base = number(evaluations.get(0, {}).get("reward"))
    after = "of the base" if selected == 0 else f"after iteration {selected}; base {base}"
    return Tile("Held-out reward", number(metrics["reward"]), f"{_interval(metrics, 'reward')} {after}")


def _gain(metrics: dict[str, float | None]) -> Tile:
    gain, low, high = (metrics.get(k) for k in ("gain", "gain/low", "gain/high"))
    if gain is None:
        return Tile("Gain over the base", "–", "no scores beside the base's yet")
    tone = "good" if low is not None and low > 0 else "bad" if high is not None and high < 0 else ""
    return Tile("Gain over the base", signed(gain), f"{_interval(metrics, 'gain')} mean paired difference", tone)


def _wins(metrics: dict[str, float | None]) -> Tile:
    rate = metrics.get("win_rate/base")
    if rate is None:
        return Tile("Wins against the base", "–", "no comparison yet")
    low, high = (percent(metrics.get(f"win_rate/base/{end}")) for end in ("low", "high"))
    return Tile("Wins against the base", percent(rate), f"95 %: {low} to {high}; a tie is half a win")


def _work(run: RunFolder) -> tuple[Tile, ...]:
    history, machine = run.history, run.attempts[-1]["machine"]
    done, resumes = len(history.steps), len(run.attempts) - 1
    wasted = "no step was done twice" if not history.replayed else f"{counted(history.replayed, 'step')} done twice"
    gpu = " and a GPU" if run.attempts[-1]["gpu"] else ""
    tier = {
        "exact": "a disturbed run ends with the same bits",
        "replay": "what was committed stands, the rest is redrawn",
    }
    return (
        Tile("Prompts", *_prompts(history.data)),
        Tile(
            "Optimizer steps",
            f"{done:,}",
            f"of {history.total_steps:,} planned, {counted(history.total_iterations, 'iteration')}{_skipped(run)}",
        ),
        Tile("Time", duration(history.seconds), f"on {counted(machine['cores'], 'core')}{gpu}, host {machine['host']}"),
        Tile("Resumes", f"{resumes:,}", wasted),
        Tile("Tier", run.tier, tier[run.tier]),
    )


def _skipped(run: RunFolder) -> str:
    """Steps whose window had nothing to train on."""
    skipped = float(np.nansum(run.history.steps.column("skipped"))) if len(run.history.steps) else 0.0
    return f"; {skipped:,.0f} skipped" if skipped else ""


def _prompts(data: dict[str, dict[str, Any]]) -> tuple[str, str]:
    if "source" not in data:
        return "–", "not read yet"
    held_out = data.get("evaluation", {}).get("kept", 0)
    return f"{data['source']['kept']:,}", f"to train on, and {held_out:,} held out"


def _interval(metrics: dict[str, float | None], name: str) -> str:
    low, high = metrics.get(f"{name}/low"), metrics.get(f"{name}/high")
    return "" if low is None or high is None else f"95 %: {number(low)} to {number(high)};"
