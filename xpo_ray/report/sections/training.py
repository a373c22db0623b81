"""What each optimizer step reported: losses, accuracies, margins, gradient norm, learning rate, κ; replays are marked."""

from dataclasses import dataclass

import numpy as np

from xpo_ray.generation.engine import sampling_of
from xpo_ray.report.blocks import Block, Figure, Note, Row, Section
from xpo_ray.report.charts import MAX_RULES, Line, lines
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.series import Floats
from xpo_ray.report.wording import counted


@dataclass(frozen=True)
class Panel:
    """A figure over steps: its metrics as (name in the journal, name in the legend, colour)."""

    title: str
    reading: str
    unit: str
    metrics: tuple[tuple[str, str, str], ...]
    log: bool = False
    percent: bool = False
    zero: bool = False
    floor: bool = False
    """The axis begins at 0."""


PANELS = (
    Panel(
        "Loss",
        "The loss of each step and its preference part; log 2 = 0.693 is that of a model that equals its reference (DPO).",
        "loss per pair",
        (("loss", "loss", "@train"), ("loss/preference", "preference part", "@draw")),
    ),
    Panel(
        "Accuracy",
        "Share of a step's pairs whose chosen response has the larger implicit reward before the step; 50 % is chance.",
        "pairs ranked right",
        (("rewards/accuracies", "accuracy", "@draw"),),
        percent=True,
    ),
    Panel(
        "Implicit rewards in training",
        "β(log π − log π_ref) of chosen and rejected and their difference; both may fall while the margin grows.",
        "nats × β",
        (
            ("rewards/margins", "margin", "@train"),
            ("rewards/chosen", "chosen", "@chosen"),
            ("rewards/rejected", "rejected", "@rejected"),
        ),
        zero=True,
    ),
    Panel(
        "Gradient norm",
        "Before clipping, on a log scale; lone spikes are hard windows, a rising floor is a learning rate that is too high.",
        "norm",
        (("grad_norm", "gradient norm", "@train"),),
        log=True,
    ),
    Panel(
        "Learning rate",
        "What the optimizer was given at each step.",
        "learning rate",
        (("learning_rate", "learning rate", "@draw"),),
        floor=True,
    ),
    Panel(
        "Exploration κ",
        "Weight of log π on the comparator in the loss.",
        "κ",
        (("kappa", "κ", "@judge"),),
        floor=True,
    ),
    Panel(
        "Exploration bonus",
        "The loss's other part, κ · log π on the comparator: the lower, the less likely what was drawn has become.",
        "loss per comparator",
        (("loss/bonus", "exploration bonus", "@judge"),),
    ),
    Panel(
        "KL within the iteration",
        "Estimated on each step's draws, against the iteration's reference; the policy's at its first step alone.",
        "nats per response",
        (
            ("kl/reference_policy", "KL(π_ref‖π)", "@reference"),
            ("kl/policy_reference", "KL(π‖π_ref)", "@draw"),
        ),
        zero=True,
    ),
)

LOG_RATIOS = Panel(
    "Log-ratio on draws",
    "Mean difference of log-probs between the iteration's reference and the policy, on the draws that are trained on; no KL, "
    "because they are the judge's choice or not drawn from the model's own distribution.",
    "nats per response",
    (
        ("log_ratio/reference_draws", "log π_ref − log π", "@reference"),
        ("log_ratio/policy_draws", "log π − log π_ref", "@draw"),
    ),
    zero=True,
)
"""Beside the KL it would show the same numbers again."""

BONUS_PANELS = ("Exploration κ", "Exploration bonus")


def training(run: RunFolder, _other: RunFolder | None) -> Section:
    """Figures over steps; dotted rules stand where iterations begin."""
    steps = run.history.steps
    lead = "By optimizer step, each window of prompts once."
    if not len(steps):
        return Section("training", "Training", lead, (Note("No optimizer step has been done yet."),))
    replayed = steps.column("replayed") == 1.0
    if replayed.any():
        lead += f" Crosses mark {counted(int(replayed.sum()), 'replayed step')}."
    borders = _borders(run)
    if 0 < len(borders) <= MAX_RULES:
        lead += " Dotted rules stand where iterations begin."
    has_kl = steps.has("kl/reference_policy") or steps.has("kl/policy_reference")
    panels = PANELS if has_kl else (*PANELS, LOG_RATIOS)
    figures = [made for panel in panels if (made := _figure(panel, run, replayed, borders)) is not None]
    blocks: list[Block] = [Row(tuple(figures))]
    if not np.any(steps.column("kappa")):
        blocks.append(Note("κ is 0 throughout: this run has no exploration bonus."))
    if not has_kl:
        blocks.append(Note(_why_no_kl(run)))
    return Section("training", "Training", lead, tuple(blocks))


def _why_no_kl(run: RunFolder) -> str:
    steps, sampling = run.history.steps, run.run_spec.sampling
    if not steps.has("log_ratio/reference_draws") and not steps.has("log_ratio/policy_draws"):
        return "No KL within the iteration: it is estimated on draws, and no draw was trained on."
    if not sampling_of(sampling, greedy=False).own_distribution:
        return (
            "No KL within the iteration: draws at another temperature than 1, with top_p, top_k or min_new_tokens are not "
            "from the distribution that log-probs are of."
        )
    return "No KL within the iteration: only the judge's choice among the draws was trained on, or draws were greedy."


def _borders(run: RunFolder) -> list[float]:
    """The step before the first of each iteration but the first."""
    iterations, numbers = run.history.steps.column("iteration"), run.history.steps.numbers()
    changes = np.flatnonzero(np.diff(iterations)) + 1
    return [float(numbers[i]) - 0.5 for i in changes]


def _figure(
    panel: Panel, run: RunFolder, replayed: Floats | np.typing.NDArray[np.bool_], borders: list[float]
) -> Figure | None:
    steps = run.history.steps
    x = steps.numbers()
    series = [Line(label, x, steps.column(key), colour) for key, label, colour in panel.metrics if steps.has(key)]
    series = [line for line in series if np.isfinite(line.y).any()]
    if not series or (panel.title in BONUS_PANELS and not np.any(steps.column("kappa"))):
        return None
    chosen = np.asarray(replayed, dtype=bool)
    if chosen.any():
        marked = series[0]
        series.append(Line("replayed", marked.x[chosen], marked.y[chosen], "@warn", markers=True))
    chart = lines(series, "step", panel.unit, log=panel.log, percent=panel.percent, zero=panel.zero, rules=borders)
    if panel.floor:
        chart["layout"]["yaxis"]["range"] = [0.0, 1.08 * float(np.nanmax(series[0].y)) or 1.0]
    return Figure(panel.title, panel.reading, chart)
