"""The plan as tables for a terminal. Only looks at a Plan; computes nothing but sums."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from xpo_ray.plan.fit import gigabytes, written
from xpo_ray.plan.layouts import LayoutPlan
from xpo_ray.plan.planning import Plan
from xpo_ray.plan.roles import RoleMemory
from xpo_ray.plan.work import IterationWork

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_ITERATIONS = 12


def render(plan: Plan) -> "Table":
    """Work, memory and GPUs under each other, and the notes."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 0, 1, 0))
    grid.add_row(_head(plan))
    if plan.iterations:
        grid.add_row(_work(plan))
    grid.add_row(_memory(plan))
    if plan.layouts[0].loads:
        grid.add_row(_gpus(plan))
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
    chosen, other = plan.layouts
    alike = "" if chosen.loads or other.fault else f"; {other.layout} takes the same memory where there are no GPUs"
    table.add_row("layout", f"{chosen.layout}{alike}")
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
    table = _sized("role", "processes", "memory of the machines, of each process")
    for role in plan.roles:
        certain = gigabytes(sum(role.least.values()))
        table.add_row(role.role, str(role.processes), certain, gigabytes(role.bytes_each), _parts(role))
    store = plan.objects
    table.add_row("object store", "", "", gigabytes(store.bytes), _named(store.parts))
    table.add_section()
    sums = (gigabytes(plan.least_memory_bytes), gigabytes(plan.memory_bytes))
    table.add_row("all", str(sum(r.processes for r in plan.roles)), *sums, _machine(plan))
    return table


def _gpus(plan: Plan) -> "Table":
    """What each process has on its GPU in the chosen layout; under it the fullest GPU in both."""
    from rich.table import Table

    table = _sized("role", "GPUs", "memory of the GPUs, of each process on each of its own")
    for role in plan.roles:
        if (there := role.on_gpu) is not None:
            bounds = (gigabytes(there.least_bytes), gigabytes(there.most_bytes))
            asked = f"{role.processes} × {there.gpus_each:.2g}"
            table.add_row(role.role, asked, *bounds, _named(there.parts, role.unknown))
    grid = Table.grid()
    grid.add_row(table)
    for layout in plan.layouts:
        grid.add_row(_fullest(layout, plan.machine.gpu_memory))
    return grid


def _sized(first: str, second: str, title: str) -> "Table":
    """A table of what is certain and what is possible."""
    from rich.table import Table

    table = Table(first, title=title, title_justify="left")
    for name in (second, "certain", "at most"):
        table.add_column(name, justify="right")
    table.add_column("at most, of which")
    return table


def _fullest(layout: LayoutPlan, size: int | None) -> str:
    """A layout's sentence: GPUs that it takes, and its fullest one."""
    label = f"layout {layout.layout}{' (chosen)' if layout.chosen else ''}"
    load = layout.fullest
    if load is None:
        return f"{label}: {'not possible, see below' if layout.fault else 'computes on no GPU'}"
    turn = "" if set(load.working) == set(load.roles) else f" at the turn of {', '.join(load.working)}"
    whole = "" if size is None else f", of {gigabytes(size)}"
    most = layout.fullest_at_most or load
    where = "" if most.roles == load.roles else f" on one with {written(most)}"
    return (
        f"{label}: the fullest of {layout.gpus.gpus} GPUs has {written(load)}, {gigabytes(load.least)} for certain{turn}; "
        f"up to {gigabytes(most.most)}{where}{whole}"
    )


def _parts(role: RoleMemory) -> str:
    return _named(role.parts, role.unknown if role.on_gpu is None else None)


def _named(parts: Mapping[str, int], unknown: str | None = None) -> str:
    named = [f"{name.replace('_', ' ')} {gigabytes(size)}" for name, size in parts.items()]
    return ", ".join(named + ([f"without {unknown}"] if unknown else []))


def _machine(plan: Plan) -> str:
    without = "without what is not known; " if any(role.unknown for role in plan.roles) else ""
    if not plan.machine.is_the_runs:
        return f"{without}the run's machines are others than this one"
    return f"{without}this machine: {gigabytes(plan.machine.memory)}, {plan.machine.cores} cores"


def _at_most(n: int | None) -> str:
    return "unknown" if n is None else f"at most {n:,}"


def _count(n: int | None) -> str:
    return "unknown" if n is None else f"{n:,}"
