"""Implicit rewards β(log π − log π_base) on held-out prompts, as in Figures 4 and 5 of the SELM paper.

On the dataset's chosen and rejected responses and on the model's own draws; with a second run the differences to it, prompt by
prompt. The reference here is the base, the one model that both runs share.
"""

import numpy as np

from xpo_ray.report.blocks import Block, Figure, Note, Row, Section
from xpo_ray.report.charts import Line, lines, ramp
from xpo_ray.report.folder import RunFolder
from xpo_ray.report.sections.reward import why_not_evaluated
from xpo_ray.report.series import Floats, sorted_curve, spread
from xpo_ray.report.wording import percent, signed
from xpo_ray.rounding import logp_bound, ranked_right

MAX_ITERATIONS = 6
PROMPTS = "share of held-out prompts, sorted, %"
NO_PAIRS = "Chosen and rejected: the held-out prompts have no pairs, so there is nothing to take these differences on."
BY_NAME = {"chosen": "The dataset's chosen", "rejected": "The dataset's rejected", "draws": "The model's own draws"}
Rewards = dict[str, Floats]


def implicit(run: RunFolder, other: RunFolder | None) -> Section:
    """Sorted implicit rewards of each iteration, and against another run."""
    lead = (
        "β(log π − log π of the base), in nats times β: what DPO's objective takes as a response's reward. "
        "Above zero the model has become more likely to say it than the base was."
    )
    evaluated = run.tables.evaluated_iterations
    iterations = spread([t for t in evaluated if t > 0], MAX_ITERATIONS)
    if not iterations or 0 not in evaluated:
        why = (
            why_not_evaluated(run)
            if not evaluated
            else "Only the base or only later models have been evaluated so far."
        )
        return Section("implicit", "Implicit rewards", lead, (Note(why),))
    rewards = {t: implicit_rewards(run, t) for t in iterations}
    right = _right(run, iterations[-1])
    pairs = tuple(_figure(name, rewards) for name in ("chosen", "rejected") if _known(rewards, name))
    blocks: list[Block] = [Row(pairs) if pairs else Note(NO_PAIRS)]
    blocks.append(Row((_figure("draws", rewards), *_margins(rewards, right))))
    return Section("implicit", "Implicit rewards", lead, (*blocks, *(_against(run, other) if other else ())))


def implicit_rewards(run: RunFolder, iteration: int) -> Rewards:
    """β(log π_t − log π_0) by kind of response, one value per held-out prompt; NaN where there is none."""
    now, base = run.tables.held_out(iteration), run.tables.held_out(0)
    place = {row: i for i, row in enumerate(base["row"].tolist())}
    at = np.array([place.get(row, -1) for row in now["row"].tolist()], dtype=np.int64)
    beta = run.beta(iteration)
    rewards = {"draws": beta * (now["logp"] - now["base_logp"])}
    for name in ("chosen", "rejected"):
        before = np.where(at >= 0, base[f"{name}_logp"][at], np.nan)
        rewards[name] = beta * (now[f"{name}_logp"] - before)
    return rewards


def _right(run: RunFolder, iteration: int) -> float:
    """Share of the held-out pairs that the model ranks as the dataset does, ties within rounding half; NaN without pairs."""
    now, base = run.tables.held_out(iteration), run.tables.held_out(0)
    _, here, there = np.intersect1d(now["row"], base["row"], assume_unique=True, return_indices=True)
    logps = np.stack([t[f"{n}_logp"][at] for n in ("chosen", "rejected") for t, at in ((now, here), (base, there))])
    logps = logps[:, np.isfinite(logps).all(axis=0)]
    if not logps.shape[1]:
        return float("nan")
    difference = (logps[0] - logps[1]) - (logps[2] - logps[3])
    return float(ranked_right(difference, logp_bound(run.run_spec.model.dtype, *logps)).mean())


def _known(rewards: dict[int, Rewards], name: str) -> bool:
    return any(np.isfinite(r[name]).any() for r in rewards.values())


def _figure(name: str, rewards: dict[int, Rewards]) -> Figure:
    series = [
        Line(f"iteration {t}", *sorted_curve(r[name]), ramp(i + 1, len(rewards) + 1))
        for i, (t, r) in enumerate(rewards.items())
    ]
    reading = (
        "Implicit rewards in ascending order: where a line crosses zero, the prompts to its right became more likely."
    )
    return Figure(BY_NAME[name], reading, lines(series, PROMPTS, "implicit reward", zero=True, hover="closest"))


def _margins(rewards: dict[int, Rewards], right: float) -> tuple[Figure, ...]:
    if not _known(rewards, "chosen"):
        return ()
    margins = {t: r["chosen"] - r["rejected"] for t, r in rewards.items()}
    series = [
        Line(f"iteration {t}", *sorted_curve(m), ramp(i + 1, len(margins) + 1))
        for i, (t, m) in enumerate(margins.items())
    ]
    reading = (
        "Chosen minus rejected, in ascending order: above zero a pair is ranked as in the dataset "
        f"({percent(right)} at the end; a difference within rounding counts half)."
    )
    return (Figure("Margin of the pairs", reading, lines(series, PROMPTS, "margin", zero=True, hover="closest")),)


def _against(run: RunFolder, other: RunFolder) -> tuple[Block, ...]:
    """This run's implicit rewards minus the other's, on the last iteration that both evaluated."""
    shared = sorted({*run.tables.evaluated_iterations} & {*other.tables.evaluated_iterations} - {0})
    if (why := _why_not_comparable(run, other, shared)) is not None:
        return (Note(why),)
    t = shared[-1]
    mine, theirs = implicit_rewards(run, t), implicit_rewards(other, t)
    place = {row: i for i, row in enumerate(other.tables.held_out(t)["row"].tolist())}
    at = np.array([place[row] for row in run.tables.held_out(t)["row"].tolist()])
    differences = {name: mine[name] - theirs[name][at] for name in BY_NAME}
    pairs = [Line(n, *sorted_curve(differences[n]), f"@{n}") for n in ("chosen", "rejected")]
    figures = []
    who = f"{run.name} minus {other.name}"
    if all(len(p.x) for p in pairs):
        means = _means(differences, "chosen", "rejected")
        reading = f"Above zero this run finds the response more likely than the other does; mean {means}."
        chart = lines(pairs, PROMPTS, "difference of implicit rewards", zero=True, hover="closest")
        figures.append(Figure(f"{who}, iteration {t}: the dataset's pairs", reading, chart))
    own = [Line("own draws", *sorted_curve(differences["draws"]), "@draw")]
    reading = (
        "Each model on its own responses: above zero this run has moved further towards what it says; "
        f"mean {_means(differences, 'draws')}."
    )
    chart = lines(own, PROMPTS, "difference of implicit rewards", zero=True, hover="closest")
    figures.append(Figure(f"{who}, iteration {t}: own draws", reading, chart))
    return (Row(tuple(figures)),)


def _why_not_comparable(run: RunFolder, other: RunFolder, shared: list[int]) -> str | None:
    if not shared or 0 not in other.tables.evaluated_iterations:
        return f"Against {other.name}: both runs have not evaluated the same iteration yet."
    mine, theirs = run.tables.held_out(0), other.tables.held_out(0)
    same_prompts = run.tables.held_out_id == other.tables.held_out_id
    if not same_prompts or not np.array_equal(mine["row"], theirs["row"]):
        return f"Against {other.name}: the runs were not evaluated on the same held-out prompts in the same way."
    if not np.allclose(mine["chosen_logp"], theirs["chosen_logp"], rtol=1e-3, atol=0.1, equal_nan=True):
        return f"Against {other.name}: the runs started from different bases, so their implicit rewards do not compare."
    return None


def _means(differences: Rewards, *names: str) -> str:
    return ", ".join(f"{signed(float(np.nanmean(differences[n])))} on {BY_NAME[n].lower()}" for n in names)
