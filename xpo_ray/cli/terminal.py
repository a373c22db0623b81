"""How events look on a terminal: bars for every stage, a line for what a user should see, a table at the end."""

import json
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from xpo_ray.reporting import (
    ActorReplaced,
    DataRead,
    EvaluationDone,
    Event,
    IterationStarted,
    RunResumed,
    RunStarted,
    ShardDone,
    StepDone,
    Warned,
)

EVALUATION_COLUMNS = ("reward", "gain", "vs base", "vs prev", "tokens", "ended", "KL", "acc.")
BARS = {"candidates": "draw", "preferences": "judge", "scored": "reference", "steps": "train", "held-out": "evaluate"}


class EventLines:
    """Each event as a line of JSON on standard output."""

    def emit(self, event: Event) -> None:
        print(json.dumps({"type": type(event).__name__, **asdict(event)}), flush=True)


class Terminal:
    """Progress bars of the iteration under way, and lines above them."""

    def __init__(self, console: Console, name: str) -> None:
        self.name = name
        self.progress = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=console,
        )
        self._bars = {
            key: self.progress.add_task(label, total=None, note="", visible=False) for key, label in BARS.items()
        }
        self._iterations = 0
        self._held_out: int | None = None
        self._evaluating: int | None = None

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """A line above the bars."""
        self.progress.console.print(text, highlight=False, soft_wrap=True)

    def emit(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started(event)
            case DataRead():
                self._data(event)
            case RunResumed():
                where = f"checkpoint {event.checkpoint}" if event.checkpoint else "the beginning"
                self.say(f"resumed from {where}: {event.total_steps} steps done, {event.adopted_tables} tables adopted")
            case IterationStarted():
                self._iteration(event)
            case ShardDone():
                self._advance(event)
            case StepDone():
                self._step(event)
            case EvaluationDone():
                self.say(f"  {_evaluated(event)}")
            case ActorReplaced():
                self.say(f"[yellow]{event.role} died and was replaced[/] ({event.restarts}): {event.reason}")
            case Warned():
                self.say(f"[yellow]warning:[/] {event.message}")
            case _:
                pass

    def _started(self, event: RunStarted) -> None:
        self._iterations = event.iterations
        dashboard = f", Ray dashboard {event.dashboard}" if event.dashboard else ""
        self.say(
            f"[bold]{self.name}[/] {event.run_id}, attempt {event.attempt}: {event.iterations} iterations, "
            f"{event.total_steps} steps{dashboard}"
        )

    def _data(self, event: DataRead) -> None:
        lost = {
            "invalid and left out": event.invalid_rows,
            "dropped as over-long": event.dropped_overlong,
            "prompts truncated": event.truncated_prompts,
            "responses cut": event.cut_responses,
        }
        what = ", ".join(f"{n} {text}" for text, n in lost.items() if n)
        self.say(f"data.{event.name}: {event.kept} of {event.read} rows" + (f"; {what}" if what else ""))
        if event.name == "evaluation":
            self._held_out = event.kept

    def _iteration(self, event: IterationStarted) -> None:
        self.say(
            f"iteration {event.iteration}/{self._iterations}: {event.prompts} prompts, {event.steps} steps, "
            f"learning rate {event.learning_rate:.2g} at the first step, κ {event.kappa:.3g}"
        )
        for key, bar in self._bars.items():
            if key != "held-out":
                total = event.steps if key == "steps" else event.shards
                self.progress.reset(bar, total=total, visible=True, note="")

    def _advance(self, event: ShardDone) -> None:
        counts = event.counts
        if event.stage == "held-out":
            self._evaluated_prompts(event)
            return
        note = ""
        if "tokens" in counts:
            length, ended = counts["tokens"] / counts["responses"], counts["ended"] / counts["responses"]
            note = f"{length:.0f} tokens each, {ended:.0%} ended"
        elif "pairs" in counts:
            note = f"{counts['pairs']:.0f} pairs, {counts['ties']:.0f} ties, {counts['dropped']:.0f} dropped"
        self.progress.update(self._bars[event.stage], advance=1, note=note)

    def _evaluated_prompts(self, event: ShardDone) -> None:
        bar = self._bars["held-out"]
        what = "base" if event.iteration == 0 else f"after iteration {event.iteration}"
        if self._evaluating != event.iteration:
            self._evaluating = event.iteration
            self.progress.reset(bar, total=self._held_out, visible=True, note=what)
        self.progress.update(bar, advance=event.prompts)

    def _step(self, event: StepDone) -> None:
        m = event.metrics
        note = f"loss {m['loss']:.4f}" if "loss" in m else "skipped: no pair in the window"
        if "rewards/accuracies" in m:
            note += f", accuracy {m['rewards/accuracies']:.2f}, margin {m['rewards/margins']:.3f}"
        self.progress.update(self._bars["steps"], completed=event.step, note=note)


def _evaluated(event: EvaluationDone) -> str:
    m = event.metrics
    what = "base" if event.iteration == 0 else f"after iteration {event.iteration}"
    reward = f"reward {_number(m.get('reward'))} [{_number(m.get('reward/low'))}, {_number(m.get('reward/high'))}]"
    return f"held-out {what}: {reward}, length {_number(m.get('length'), 1)}, KL {_number(m.get('kl/k1'), 2)}"


def evaluation_table(title: str, evaluation: dict[int, dict[str, float | None]]) -> Table:
    """One row per evaluated model; ± is half of a 95 % interval, vs is a win rate, acc. the implicit reward's accuracy."""
    table = plain_table(f"{title}: held-out prompts")
    table.add_column("after", no_wrap=True)
    for name in EVALUATION_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for t, m in sorted(evaluation.items()):
        table.add_row("base" if t == 0 else str(t), *evaluation_cells(m))
    return table


def plain_table(title: str) -> Table:
    """A table that fits 80 columns."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def evaluation_cells(m: dict[str, float | None]) -> list[str]:
    """The cells of a row of evaluation_table behind its name."""
    return [
        _with_interval(m, "reward"),
        _with_interval(m, "gain"),
        _percent(m.get("win_rate/base")),
        _percent(m.get("win_rate/previous")),
        _number(m.get("length"), 1),
        _percent(m.get("eos_rate")),
        _number(m.get("kl/k1"), 2),
        _percent(m.get("implicit_accuracy")),
    ]


def _with_interval(m: dict[str, float | None], name: str) -> str:
    value, low, high = m.get(name), m.get(f"{name}/low"), m.get(f"{name}/high")
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f}±{(high - low) / 2:.3f}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
