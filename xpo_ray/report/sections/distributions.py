"""Reward histograms by iteration, as in Figure 3 of the SELM paper: held-out responses, draws, and the dataset's pairs."""

import numpy as np

from xpo_ray.report.blocks import Block, Figure, Note, Row, Section
from xpo_ray.report.charts import Chart, Ridge, ramp, ridges
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.reward import why_no_scores
from xpo_ray.report.series import Floats, bin_edges, shares, spread
from xpo_ray.report.tables import TrainingScores

MAX_ITERATIONS = 6
SCORE = "score of the judge"


def distributions(run: RunFolder, _other: RunFolder | None) -> Section:
    """Where the mass of the scores lies, and how it moves."""
    blocks: list[Block] = []
    figures: list[Figure] = []
    for made in (_held_out(run), _training(run)):
        if isinstance(made, Figure):
            figures.append(made)
        else:
            blocks.append(made)
    first = [Row(tuple(figures))] if figures else []
    lead = "All scores, not their mean alone: exploration shows as width, and learning as a shift to the right."
    return Section("distributions", "Reward distributions", lead, (*first, *blocks))


def _held_out(run: RunFolder) -> Figure | Note:
    iterations = spread(run.tables.evaluated_iterations, MAX_ITERATIONS + 1)
    scores = {t: run.tables.held_out(t)["score"] for t in iterations}
    scores = {t: values for t, values in scores.items() if np.isfinite(values).any()}
    if not scores:
        return Note(f"Held-out responses: {why_no_scores(run)}")
    before = 0 if 0 in scores else 1
    rows = [
        ("base" if t == 0 else f"iteration {t}", values, ramp(i + before, len(scores) + before))
        for i, (t, values) in enumerate(scores.items())
    ]
    reading = "Mass that moves to the right from one iteration to the next is reward gained; dots are means."
    return Figure("Held-out responses", reading, _chart(rows))


def _training(run: RunFolder) -> Figure | Note:
    iterations = spread(run.tables.training_iterations, MAX_ITERATIONS)
    scores = {t: run.tables.scores(t) for t in iterations}
    draws = {t: _joined([s.scores[o] for o in ("policy", "reference") if o in s.scores]) for t, s in scores.items()}
    draws = {t: values for t, values in draws.items() if np.isfinite(values).any()}
    dataset = {o: _joined([s.scores[o] for s in scores.values() if o in s.scores]) for o in ("chosen", "rejected")}
    dataset = {o: values for o, values in dataset.items() if np.isfinite(values).any()}
    if not draws and not dataset:
        return Note(_why_not_scored(run, bool(scores)))
    rows = [(f"draws, it. {t}", values, ramp(i + 1, len(draws) + 1)) for i, (t, values) in enumerate(draws.items())]
    rows += [(o, values, f"@{o}") for o, values in dataset.items()]
    beside = ", and the dataset's chosen and rejected in the same scores" if dataset else ""
    reading = f"What the judge gave to the draws of each iteration{beside}; dots are means. {_read_of(run, scores)}"
    return Figure("Training candidates", reading, _chart(rows))


def _read_of(run: RunFolder, scores: dict[int, TrainingScores]) -> str:
    """How much of the run the figure stands on."""
    read, prompts = sum(s.read for s in scores.values()), sum(s.prompts for s in scores.values())
    every = len(run.tables.training_iterations)
    where = "" if every == len(scores) else f" in {len(scores)} of {every} iterations"
    return f"From {read:,} of {prompts:,} prompts{where}."


def _chart(rows: list[tuple[str, Floats, str]]) -> Chart:
    edges = bin_edges([values for _, values, _ in rows], bins=_bins(min(len(values) for _, values, _ in rows)))
    ridge = [Ridge(name, shares(values, edges), float(np.nanmean(values)), colour) for name, values, colour in rows]
    return ridges(ridge, edges, SCORE)


def _why_not_scored(run: RunFolder, committed: bool) -> str:
    if not committed:
        return "Training candidates: no judged shard has been committed yet."
    if run.spec["judge"] is None or run.spec["algorithm"]["kind"] in ("dpo", "sdpo"):
        return "Training candidates: the dataset's pairs were taken as given, no judge scored them."
    return "Training candidates: the judge gave win probabilities alone, and no scores."


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.array([])


def _bins(samples: int) -> int:
    """More samples carry finer bins."""
    return int(np.clip(np.sqrt(samples), 10, 32))
