"""What the driver itself costs: time per shard, and memory over a run of up to a million prompts.

    python benchmarks/scale.py [--quick] [--json FILE] [--plot FILE.svg] [--output FOLDER]

The driver, the scheduler, the pools, the storage, Ray and its actors are the true ones; the model, the judge and the trainer
are actors that answer at once (scale_actors.py), so that nothing is measured but what stands around them. Each lap runs in a
process of its own (scale_lap.py), tokenising included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table
from scale_world import build, write_spec

PROMPTS = (10_000, 100_000, 1_000_000)
SHARD_SIZES = (16, 64, 256)
SHARDS, LEFT_OUT = 330, 30
"""Of a lap that measures the time per shard; the first ones wait for processes to start."""
LARGE_SHARD = 1024
LAP = Path(__file__).with_name("scale_lap.py")
Figures = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    if arguments.plot and find_spec("matplotlib") is None:
        raise SystemExit("--plot needs matplotlib: pip install -c constraints.txt -e '.[bench]'")
    folder = arguments.output or Path(tempfile.mkdtemp(prefix="xpo-ray-scale-"))
    sizes = (2_000, 20_000) if arguments.quick else tuple(arguments.prompts)
    shards = 60 if arguments.quick else SHARDS
    times = [time_per_shard(folder, size, shards) for size in arguments.shard_sizes]
    memory = [lap(folder, n, LARGE_SHARD, partitions=max(min(10, n // LARGE_SHARD), 1)) for n in sizes]
    show(times, memory, Console())
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"time_per_shard": times, "memory": [_summary(m) for m in memory]}, indent=1)
        )
    if arguments.plot:
        plot(memory, arguments.plot)


def time_per_shard(folder: Path, size: int, shards: int) -> Figures:
    """Mean seconds from step to step, a step being a shard: with commits, and with a clerk that publishes nothing."""
    laps = [lap(folder, size * shards, size, partitions=1, commits=commits) for commits in (True, False)]
    with_commits, without = (mean(_gaps(figures["steps"][min(LEFT_OUT, shards // 2) :])) for figures in laps)
    return {"shard_size": size, "ms": 1e3 * with_commits, "ms_without_commits": 1e3 * without}


def lap(folder: Path, prompts: int, shard_size: int, *, partitions: int, commits: bool = True) -> Figures:
    """One run in a process of its own; its figures."""
    world = folder / f"{prompts}-prompts"
    if not (world / "train.parquet").exists():
        build(world, prompts)
    name = f"shards-of-{shard_size}" + ("" if commits else "-without-commits")
    spec = write_spec(world, name, shard_size=shard_size, partitions=partitions)
    figures = world / f"{name}.json"
    command = [sys.executable, str(LAP), str(spec), str(figures), *([] if commits else ["--without-commits"])]
    subprocess.run(command, check=True)
    read: Figures = json.loads(figures.read_text())
    return read


def _gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


def _summary(figures: Figures) -> Figures:
    """MiB of anonymous memory: while tokenising, over the run until its last step, and its growth there."""
    steady = _steady(figures)
    run = [s["anonymous"] for s in figures["samples"] if s["phase"] == "run" and s["prompts"] < figures["prompts"]]
    return {
        "prompts": figures["prompts"],
        "prepare_s": figures["prepare_s"],
        "run_s": figures["run_s"],
        "imported": figures["imported"]["anonymous"],
        "prepare_peak": max(s["anonymous"] for s in figures["samples"] if s["phase"] == "prepare"),
        "run_peak": max(run),
        "last": figures["samples"][-1]["anonymous"],
        "resident_peak": max(s["resident"] for s in figures["samples"]),
        "growth": steady[-1]["anonymous"] - steady[0]["anonymous"] if steady else None,
    }


def _steady(figures: Figures) -> list[Figures]:
    """Samples from a tenth of the run to its last step."""
    total = figures["prompts"]
    return [s for s in figures["samples"] if s["phase"] == "run" and 0.1 * total <= s["prompts"] < total]


def show(times: list[Figures], memory: list[Figures], console: Console) -> None:
    """Two tables."""
    table = Table(title="time per shard that is not drawing, judging or training")
    for name in ("prompts per shard", "ms per shard", "without commits", "µs per prompt"):
        table.add_column(name, justify="right")
    for t in times:
        cells = (f"{t['ms']:.1f}", f"{t['ms_without_commits']:.1f}", f"{1e3 * t['ms'] / t['shard_size']:.0f}")
        table.add_row(str(t["shard_size"]), *cells)
    console.print(table)
    table = Table(title="the driver's own (anonymous) memory in MiB")
    names = ("prompts", "imported", "tokenising", "run", "with report", "growth in the run", "prepare s", "run s")
    for name in names:
        table.add_column(name, justify="right")
    for m in map(_summary, memory):
        megabytes = (m["imported"], m["prepare_peak"], m["run_peak"], m["last"])
        growth = "–" if m["growth"] is None else f"{m['growth']:+.1f}"
        cells = [*(f"{v:.0f}" for v in megabytes), growth, f"{m['prepare_s']:.0f}", f"{m['run_s']:.0f}"]
        table.add_row(f"{m['prompts']:,}", *cells)
    console.print(table)


def plot(memory: list[Figures], path: Path) -> None:
    """Memory against the prompts done, and the peaks against the number of prompts."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (over, peaks) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    for lap_of in memory:
        run = [s for s in lap_of["samples"] if s["phase"] == "run" and s["prompts"] < lap_of["prompts"]]
        share = [100 * s["prompts"] / lap_of["prompts"] for s in run]
        over.plot(share, [s["anonymous"] for s in run], label=f"{lap_of['prompts']:,} prompts")
    over.set_xlabel("% of the prompts done")
    over.set_ylabel("driver's own memory, MiB")
    over.legend(fontsize=7, frameon=False)
    rows = [_summary(m) for m in memory]
    for name, label in (
        ("prepare_peak", "peak while tokenising"),
        ("run_peak", "peak of the run"),
        ("imported", "imports"),
    ):
        peaks.plot([r["prompts"] for r in rows], [r[name] for r in rows], "o-", label=label)
    peaks.set_xscale("log")
    peaks.set_xlabel("prompts")
    peaks.set_ylim(bottom=0)
    peaks.legend(fontsize=7, frameon=False)
    for axis in (over, peaks):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    plt.close(figure)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 and 20,000 prompts, 60 shards")
    parser.add_argument("--prompts", type=int, nargs="*", default=list(PROMPTS), help="laps that measure memory")
    parser.add_argument("--shard-sizes", type=int, nargs="*", default=list(SHARD_SIZES), help="laps that measure time")
    parser.add_argument("--output", type=Path, help="folder for data and runs, a new one (default: a temporary one)")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--plot", type=Path, help="write a picture, .svg or .png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
