"""The race on the terminal and as a picture. against_trl calls this; it measures nothing."""

from collections.abc import Sequence
from pathlib import Path

from race_laps import STAGES
from race_result import SIDES, TRL, XPO_RAY, Race, mean_and_error
from rich.console import Console
from rich.table import Table

NAMES = {XPO_RAY: "xpo_ray", TRL: "TRL XPOTrainer"}
COLOURS = dict(zip(STAGES, ("#3b6fb6", "#e0a030", "#6aa56a", "#b65050", "#a0a0a0"), strict=True))


def show(races: Sequence[Race], console: Console) -> None:
    """One table for each task."""
    for race in races:
        task = race.task
        table = Table(
            title=f"{task.name}: prompts of {task.prompt_tokens} tokens, {task.new_tokens} new, batch {task.batch}, "
            f"{task.updates} updates, the first {task.left_out} and the last {task.left_out_last} left out"
        )
        table.add_column("")
        for side in SIDES:
            table.add_column(NAMES[side], justify="right")
        for name, cells in _rows(race):
            table.add_row(name, *cells)
        console.print(table)
        console.print(f"{task.name}: {race.ratio:.2f} times the prompts per second of TRL", highlight=False)
        console.print(f"peak of a float32 matrix product: {race.peak / 1e9:.0f} GFLOP/s\n", highlight=False)


def _rows(race: Race) -> list[tuple[str, list[str]]]:
    stages = {side: race.stage_seconds(side) for side in SIDES}
    early, late = slice(0, 1), slice(2, 3)
    return [
        ("prompts/s, median of laps", [f"{race.rate(s):.2f}" for s in SIDES]),
        ("prompts/s of each lap", [" ".join(f"{r:.2f}" for r in race.rates(s)) for s in SIDES]),
        ("seconds per update", [f"{race.task.batch / race.rate(s):.3f}" for s in SIDES]),
        *[(f"  {stage}", [f"{stages[s][stage]:.3f}" for s in SIDES]) for stage in STAGES],
        ("GFLOP per update", [f"{race.operations[s] / 1e9:.1f}" for s in SIDES]),
        ("share of peak", [f"{race.share_of_peak(s):.0%}" for s in SIDES]),
        ("loss of the first update", [f"{race.first_loss(s):.4f}" for s in SIDES]),
        ("score over reference, first third", [_gain(race, s, early) for s in SIDES]),
        ("score over reference, last third", [_gain(race, s, late) for s in SIDES]),
    ]


def _gain(race: Race, side: str, thirds: slice) -> str:
    mean, error = mean_and_error(race.gains(side, thirds))
    return f"{mean:+.2f} ± {error:.2f}"


def plot(races: Sequence[Race], path: Path) -> None:
    """Prompts per second, and where the seconds of an update go; the format follows the file's name."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(races), 2, figsize=(9, 2.6 * len(races)), squeeze=False, layout="constrained")
    for (rates, stages), race in zip(axes, races, strict=True):
        names = [NAMES[s] for s in SIDES]
        rates.barh(names, [race.rate(s) for s in SIDES], color=["#3b6fb6", "#a0a0a0"])
        for place, side in enumerate(SIDES):
            rates.plot(race.rates(side), [place] * len(race.rates(side)), "k|", markersize=14)
        task = race.task
        rates.set_title(f"{task.prompt_tokens} + {task.new_tokens} tokens: {race.ratio:.2f}×", fontsize=10)
        rates.set_xlabel("prompts per second")
        left = [0.0, 0.0]
        for stage in STAGES:
            widths = [race.stage_seconds(s)[stage] for s in SIDES]
            stages.barh(names, widths, left=left, color=COLOURS[stage], label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        stages.set_xlabel("seconds per update")
        stages.set_yticks([])
        for axis in (rates, stages):
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][1].legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    figure.savefig(path)
    plt.close(figure)
