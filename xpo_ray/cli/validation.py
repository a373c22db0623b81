"""`xpo-ray validate`: the resolved spec, κ of each iteration, and upper bounds; with --deep every row is read and tokenised."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.syntax import Syntax

from xpo_ray.algorithms import row_of_iteration
from xpo_ray.attempts import check_output
from xpo_ray.cli.plain_text import tell_aside
from xpo_ray.cli.showing_data import compared, sentences, surveyed
from xpo_ray.exports.checks import check_exports
from xpo_ray.gguf_files import with_safetensors
from xpo_ray.judges.checks import check_judges
from xpo_ray.model_files import check_tokenizer_files
from xpo_ray.plan import machine_of, plan, render
from xpo_ray.spec.run import RunSpec, at_iteration


@dataclass(frozen=True)
class Elsewhere:
    """GPUs of the machines that a run is planned for, where they are not this machine's."""

    gpus: int | None = None
    gpu_memory_gib: float | None = None


def validate_and_show(
    spec: RunSpec,
    folder: Path,
    *,
    deep: bool,
    as_json: bool,
    known_rows: int | None,
    elsewhere: Elsewhere,
    show_tokens: bool = False,
) -> None:
    """Print what the run will do, or raise the UserError that would stop it: of a run that does not fit, behind its plan.
    `known_rows` as in `plan`."""
    check_output(Path(spec.output.path), None, resume=True)
    check_exports(spec.exports)
    spec = with_safetensors(spec, tell_aside)
    check_tokenizer_files(spec.model.path)
    planned = plan(spec, known_rows, machine_of(spec).with_gpus(elsewhere.gpus, elsewhere.gpu_memory_gib))
    check_judges(spec, folder)
    data = surveyed(spec, hub=deep)
    rows, said = _checked_rows(spec, folder) if deep else (None, {})
    data |= said
    if as_json:
        planned.check()
        out = {"spec": _plain(spec), "kappa": kappas(spec), "plan": planned.to_json(), "rows": rows, "data": data}
        print(json.dumps(out, indent=2))
        return
    console = Console()
    text = yaml.safe_dump(_plain(spec), sort_keys=False, allow_unicode=True, width=100)
    console.print(Syntax(text.rstrip(), "yaml", background_color="default", word_wrap=True))
    console.print(f"\nκ by iteration: {', '.join(f'{k:.3g}' for k in kappas(spec))}\n", highlight=False)
    console.print(render(planned))
    console.print("\n".join(sentences(data, rows, tokens=show_tokens)), highlight=False, markup=False, soft_wrap=True)
    planned.check()
    console.print("[green]valid[/]")


def kappas(spec: RunSpec) -> list[float]:
    """κ of each iteration; one value where all have the same."""
    values = [at_iteration(row_of_iteration(spec.algorithm, t).kappa, t) for t in range(1, (spec.partitions or 1) + 1)]
    return values[:1] if len(set(values)) == 1 else values


def _checked_rows(spec: RunSpec, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Counts of what was read, and what the rows say of each other."""
    from xpo_ray.preparation import prepare

    prepared = prepare(spec, folder)
    sets = {"source": prepared.prompts, "evaluation": prepared.held_out}
    counts: dict[str, Any] = {name: s.counts() for name, s in sets.items() if s is not None}
    chat = {"end_of_turn": prepared.record["chat"]["end_of_turn"], "warnings": list(prepared.warnings)}
    return counts | {"steps": prepared.schedule.total_steps()} | chat, compared(prepared)


def _plain(spec: RunSpec) -> dict[str, Any]:
    plain: dict[str, Any] = spec.model_dump(mode="json")
    return plain
