"""`xpo-ray run`: prepare, run in this process, show progress, and end with a table."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from xpo_ray.attempts import check_output
from xpo_ray.cli.terminal import EventLines, Terminal, evaluation_table
from xpo_ray.reporting import Reporter
from xpo_ray.results import Result
from xpo_ray.spec.run import RunSpec


def run_and_show(spec: RunSpec, folder: Path, *, resume: bool, as_json: bool) -> Result:
    """Run a spec; with `as_json` events go to standard output as JSON lines."""
    check_output(Path(spec.output.path), None, resume=resume)
    if as_json:
        result = run_spec(spec, folder, resume=resume, reporter=EventLines())
        print(json.dumps({"type": "Result", **asdict(result)}, default=str))
        return result
    console = Console()
    with Terminal(console, spec.name) as terminal:
        result = run_spec(spec, folder, resume=resume, reporter=terminal)
    if result.evaluation:
        console.print(evaluation_table(spec.name, result.evaluation))
    console.print(
        f"model of iteration {result.selected}: [bold]{result.model}[/]  (tier: {result.tier})", soft_wrap=True
    )
    return result


def run_spec(spec: RunSpec, folder: Path, *, resume: bool, reporter: Reporter) -> Result:
    """Prepare and run. Raises UserError before anything is written, RunFailed afterwards."""
    from xpo_ray.actors.driver import run_foreground
    from xpo_ray.preparation import prepare

    return run_foreground(prepare(spec, folder), resume=resume, reporter=reporter)
