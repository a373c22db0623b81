"""`xpo-ray demo`: a world of its own, a small base model, then DPO, iterative DPO and SELM from it on a real Ray."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from xpo_ray.cli.foreground import prepared_run, run_prepared
from xpo_ray.cli.terminal import EVALUATION_COLUMNS, Terminal, evaluation_cells, plain_table
from xpo_ray.demo.recipes import ALGORITHMS, demo_spec
from xpo_ray.errors import OutputError
from xpo_ray.report import write_report
from xpo_ray.results import Result
from xpo_ray.spec.loading import resolve

SHOWN = 3


def run_demo(output: Path) -> None:
    """Everything from an empty folder to a table; each run's folder is an ordinary run that `xpo-ray run` could have made."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output} is not empty; give a new folder with --output, or delete it")
    console = Console()
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    _make_base(console, output)
    with _ray(console):
        results = {name: _run(console, output, name) for name in ALGORITHMS}
    console.print(_table(results))
    console.print(
        "[dim]± is half of a 95 % interval. One seed ranks no algorithms: see the README for what is claimed.[/]\n"
    )
    _show_samples(console, results)
    for name, result in results.items():
        console.print(f"{name:>14}: {result.model}", soft_wrap=True, highlight=False)
    report = write_report(results["selm"].root, against=results["dpo"].root)
    console.print(f"{'report':>14}: {report}", soft_wrap=True, highlight=False)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)


def _make_base(console: Console, output: Path) -> None:
    console.print("[bold]1. A world and a base model[/] (nothing is downloaded)")
    columns = (TextColumn("{task.description:>12}"), BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("train base", total=None)
        from xpo_ray.demo.base_model import train_base
        from xpo_ray.demo.world import write_world

        world = write_world(output)
        train_base(output, world, progress=lambda done, total: bars.update(task, completed=done, total=total))


@contextmanager
def _ray(console: Console) -> Iterator[None]:
    """One Ray with its dashboard for the three runs."""
    from xpo_ray.actors.placement import connect
    from xpo_ray.spec.training import ResourcesSpec

    with console.status("starting Ray"):
        cluster = connect(ResourcesSpec(), "demo")
    console.print(f"\n[bold]2. Three runs on Ray[/], dashboard at {cluster.dashboard}", highlight=False, soft_wrap=True)
    try:
        yield
    finally:
        cluster.close()


def _run(console: Console, output: Path, name: str) -> Result:
    raw = demo_spec(name)
    (output / f"{name}.yaml").write_text(_as_yaml(raw), encoding="utf-8")
    prepared = prepared_run(resolve(json.loads(json.dumps(raw)), (), output.resolve()), output.resolve())
    with Terminal(console, name) as terminal:
        return run_prepared(prepared, resume=False, reporter=terminal)


def _as_yaml(raw: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(raw, sort_keys=False)
    return text


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
