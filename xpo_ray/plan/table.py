"""The plan as tables for a terminal. Only looks at a Plan; computes nothing but sums."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from xpo_ray.plan.memory import RoleMemory
from xpo_ray.plan.planning import Plan
from xpo_ray.plan.work import IterationWork

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_ITERATIONS = 12


def render(plan: Plan) -> "Table":
    """Work and memory under each other, all as upper bounds, and the notes."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 0, 1, 0))
    grid.add_row(_head(plan))
    if plan.iterations:
        grid.add_row(_work(plan))
    grid.add_row(_memory(plan))
    for note in plan.notes:
        grid.add_row(f"· {note}")
    return grid


def _head(plan: Plan) -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("run", f"{plan.name} ({plan.algorithm})")
    table.add_row("model", f"{_count(plan.parameters)} parameters")
    table.add_row("prompts", f"{_at_most(plan.prompts)}; held out {_count(plan.evaluation_prompts)}")
    table.add_row("held-out draws", _at_most(plan.evaluation_draws))
    return table


def _work(plan: Plan) -> "Table":
    from rich.table import Table

    names = ("prompts", "shards", "draws", "trained on", "windows", "steps")
    table = Table("iteration", "algorithm", title="work, at most", title_justify="left")
    for name in names:
        table.add_column(name, justify="right")
    lines = list(_lines(plan.iterations))
    left_out = max(0, len(lines) - SHOWN_ITERATIONS)
    for i, (label, work) in enumerate(lines):
        if left_out and SHOWN_ITERATIONS - 1 <= i < len(lines) - 1:
            continue
        if left_out and i == len(lines) - 1:
            table.add_row("…")
        counts = (work.prompts, work.shards, work.draws, work.trained_prompts, work.windows, work.steps)
        table.add_row(label, work.kind, *(_count(n) for n in counts))
    table.add_section()
    table.add_row(
        "all",
        "",
        *(_count(n) for n in (plan.prompts, plan.shards, plan.draws)),
        "",
        *map(_count, (plan.windows, plan.steps)),
    )
    return table


def _lines(iterations: tuple[IterationWork, ...]) -> Iterator[tuple[str, IterationWork]]:
    """Runs of iterations that do the same work, as one line each: ("2–955", work)."""
    for _, group in groupby(iterations, key=lambda w: replace(w, iteration=0)):
        same = list(group)
        first, last = same[0].iteration, same[-1].iteration
        yield (str(first) if first == last else f"{first}–{last}"), same[0]


def _memory(plan: Plan) -> "Table":
    from rich.table import Table

    table = Table("role", title="memory, at most", title_justify="left")
    table.add_column("processes", justify="right")
    table.add_column("each", justify="right")
    table.add_column("of which")
    for role in plan.roles:
        table.add_row(role.role, str(role.processes), _bytes(role.bytes_each), _parts(role))
    table.add_section()
    table.add_row("all", str(sum(r.processes for r in plan.roles)), _bytes(plan.memory_bytes), _machine(plan))
    return table


def _parts(role: RoleMemory) -> str:
    parts = [f"{name.replace('_', ' ')} {_bytes(size)}" for name, size in role.parts.items()]
    return ", ".join(parts + ([f"without {role.unknown}"] if role.unknown else []))


def _machine(plan: Plan) -> str:
    without = "without what is not known; " if any(role.unknown for role in plan.roles) else ""
    return f"{without}this machine: {_bytes(plan.machine_bytes)}, {plan.cores} cores"


def _at_most(n: int | None) -> str:
    return "unknown" if n is None else f"at most {n:,}"


def _count(n: int | None) -> str:
    return "unknown" if n is None else f"{n:,}"


def _bytes(n: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e3:.0f} kB"
