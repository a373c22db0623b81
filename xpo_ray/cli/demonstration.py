"""`xpo-ray demo`: SELM on SmolLM2-135M-Instruct where it was fetched, else the comparison in a made-up world.

Answers before and after stand side by side, with the words in colour that the judge went by.
"""

import re
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xpo_ray.cli.demo_runs import one_ray, run_one
from xpo_ray.cli.plain_text import line
from xpo_ray.cli.terminal import evaluation_table
from xpo_ray.demo.questions import write_questions
from xpo_ray.demo.real_model import NAME, cached_model
from xpo_ray.demo.recipes import real_spec
from xpo_ray.errors import OutputError
from xpo_ray.results import Result

SHOWN = 5


def run_demo(output: Path, *, compare: bool) -> None:
    """Everything from an empty folder to answers before and after. Raises OutputError where the folder is not empty."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output} is not empty; give a new folder with --output, or delete it")
    console = Console()
    started = time.monotonic()
    model = None if compare else real_model(console)
    output.mkdir(parents=True, exist_ok=True)
    if model is None:
        from xpo_ray.cli.comparison import compare as compare_in_made_up_world

        compare_in_made_up_world(console, output)
    else:
        _improve(console, output, model)
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)


def real_model(console: Console) -> Path | None:
    """The model's folder; None, and a line that says why, where the demo on it cannot be run."""
    from importlib.util import find_spec

    model = cached_model()
    if model is None:
        missing = f"{NAME} was not fetched (`make real-model` or `python -m xpo_ray.demo.real_model` does it)"
    elif find_spec("vaderSentiment") is None:
        missing = 'its judge is not installed (`pip install "xpo-ray[demo]"`)'
    else:
        return model
    console.print(f"[yellow]No demo on a real model:[/] {missing}; here is the comparison in a made-up world.")
    return None


def _improve(console: Console, output: Path, model: Path) -> None:
    console.print(f"[bold]1. {NAME}[/], a public model of 135 million parameters, in {model}", soft_wrap=True)
    console.print(
        "SELM trains it on questions of everyday life. The judge counts how positive the words of an answer are, and nothing "
        "else: the answers become more cheerful, not more correct."
    )
    train, held_out = write_questions(output)
    spec = real_spec(model)
    with one_ray(console, f"2. SELM: {train} questions with two answers each, {held_out} held-out questions"):
        result = run_one(console, output, spec)
    console.print(evaluation_table("3. Before and after", result.evaluation))
    console.print(_verdict(result), highlight=False)
    console.print(
        f"\n[bold]4. The first {SHOWN} held-out questions[/], answers cut at {spec['sampling']['max_new_tokens']} tokens; in "
        "[green]green[/] and [red]red[/] the words that the judge counts for and against an answer\n"
    )
    for before, after in _answers(result)[:SHOWN]:
        console.print(side_by_side(before, after), "")
    for name, path in {
        "model": result.model,
        "spec": output / "selm.yaml",
        "report": result.root / "report.html",
    }.items():
        console.print(f"{name:>14}: {path}", soft_wrap=True, highlight=False)


def _verdict(result: Result) -> str:
    last = result.evaluation[max(result.evaluation)]
    gain, low, high, prompts = (last[name] for name in ("gain", "gain/low", "gain/high", "prompts"))
    if gain is None or low is None or high is None or prompts is None:
        return "The held-out answers were not judged."
    return (
        f"[bold]Gain in positivity: {gain:+.2f}[/], 95 % interval {low:+.2f} to {high:+.2f}: the mean of after − before over "
        f"the same {prompts:.0f} questions, ± 1.96 standard errors of these differences."
    )


def _answers(result: Result) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Rows of samples.parquet: the base's and the result's for each held-out question."""
    rows = pq.read_table(result.root / "samples.parquet").to_pylist()
    first, last = ([row for row in rows if row["iteration"] == t] for t in (0, max(result.evaluation)))
    return list(zip(first, last, strict=True))


def side_by_side(before: dict[str, Any], after: dict[str, Any]) -> Table:
    """A question above its two answers, each with its score."""
    question = line(before["prompt"][-1]["content"])
    table = Table(title=question, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), expand=True)
    for name, row in (("before", before), ("after", after)):
        score = "" if row["score"] is None else f" {row['score']:+.2f}"
        table.add_column(f"{name}{score}", header_style="dim", ratio=1)
    table.add_row(coloured(before["response"]), coloured(after["response"]))
    return table


def coloured(response: str) -> Text:
    """The response with its positive words in green and its negative ones in red, as the judge's list has them."""
    from xpo_ray.demo.positivity import telling

    text = Text(line(response))
    for word, valence in telling(response).items():
        text.highlight_regex(rf"(?i)(?<!\w){re.escape(word)}(?!\w)", "green" if valence > 0 else "red")
    return text
