"""`xpo-ray demo --compare`: a made-up world, a small base model, then DPO, iterative DPO and SELM from it on a real Ray."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from xpo_ray.cli.demo_runs import one_ray, run_one
from xpo_ray.cli.terminal import EVALUATION_COLUMNS, evaluation_cells, plain_table
from xpo_ray.demo.recipes import ALGORITHMS, demo_spec
from xpo_ray.report import write_report
from xpo_ray.results import Result

SHOWN = 3


def compare(console: Console, output: Path) -> None:
    """Everything from an empty folder to a table; each run's folder is an ordinary run that `xpo-ray run` could have made."""
    _make_base(console, output)
    with one_ray(console, "2. Three runs on Ray"):
        results = {name: run_one(console, output, demo_spec(name)) for name in ALGORITHMS}
    console.print(_table(results))
    console.print(
        "[dim]± is half of a 95 % interval. One seed ranks no algorithms: see the README for what is claimed.[/]\n"
    )
    _show_samples(console, results)
    for name, result in results.items():
        console.print(f"{name:>14}: {result.model}", soft_wrap=True, highlight=False)
    report = write_report(results["selm"].root, against=results["dpo"].root)
    console.print(f"{'report':>14}: {report}", soft_wrap=True, highlight=False)


def _make_base(console: Console, output: Path) -> None:
    console.print("[bold]1. A made-up world and a base model[/] (nothing is downloaded)")
    columns = (TextColumn("{task.description:>12}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("train base", total=None)
        from xpo_ray.demo.base_model import train_base
        from xpo_ray.demo.world import write_world

        world = write_world(output)
        train_base(output, world, progress=lambda done, total: bars.update(task, completed=done, total=total))


def _table(results: dict[str, Result]) -> Table:
    table = plain_table("3. Held-out prompts")
    table.add_column("algorithm", no_wrap=True)
    table.add_column("after", no_wrap=True, justify="right")
    shown = [name for name in EVALUATION_COLUMNS if name not in HIDDEN]
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    base = next(iter(results.values())).evaluation[0]
    table.add_row("base", "", *_cells(base))
    for name, result in results.items():
        table.add_section()
        for t, metrics in sorted(result.evaluation.items()):
            if t > 0:
                table.add_row(name if t == 1 else "", str(t), *_cells(metrics))
    return table


HIDDEN = ("vs prev", "ended", "acc.")


def _cells(metrics: dict[str, float | None]) -> list[str]:
    return [
        cell for name, cell in zip(EVALUATION_COLUMNS, evaluation_cells(metrics), strict=True) if name not in HIDDEN
    ]


def _show_samples(console: Console, results: dict[str, Result]) -> None:
    """Held-out prompts with the base's answer and each result's."""
    console.print("[bold]4. Answers before and after[/]")
    answers: dict[str, list[dict[str, Any]]] = {}
    for name, result in results.items():
        rows = pq.read_table(result.root / "samples.parquet").to_pylist()
        answers["base"] = [r for r in rows if r["iteration"] == 0]
        answers[name] = [r for r in rows if r["iteration"] == max(result.evaluation)]
    for i in range(SHOWN):
        question = answers["base"][i]["prompt"][-1]["content"]
        console.print(f"\n[bold]{escape(question)}[/]", highlight=False)
        for name, rows in answers.items():
            score = rows[i]["score"]
            console.print(f"{name:>14} [dim]{score:+.2f}[/]  {escape(rows[i]['response'])}", highlight=False)
    console.print()
