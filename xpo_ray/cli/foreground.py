"""`xpo-ray run`: prepare, run in this process, show progress, and end with a table."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from xpo_ray.attempts import check_output
from xpo_ray.cli.plain_text import tell_aside
from xpo_ray.cli.profiling import show_profile
from xpo_ray.cli.terminal import EventLines, Terminal, evaluation_table
from xpo_ray.gguf_files import with_safetensors
from xpo_ray.reporting import Reporter
from xpo_ray.results import Result
from xpo_ray.spec.run import RunSpec

if TYPE_CHECKING:
    from xpo_ray.preparation import Prepared


def run_and_show(spec: RunSpec, folder: Path, *, resume: bool, as_json: bool, profile: bool = False) -> Result:
    """Run a spec; with `as_json` events go to standard output as JSON lines.

    Raises UserError before anything is written, RunFailed afterwards.
    """
    check_output(Path(spec.output.path), None, resume=resume)
    if as_json:
        result = run_spec(spec, folder, resume=resume, reporter=EventLines(), profile=profile)
        print(json.dumps({"type": "Result", **asdict(result)}, default=str))
        return result
    console = Console()
    with console.status("reading and checking the data") if console.is_terminal else nullcontext():
        prepared = prepared_run(spec, folder)
    with Terminal(console, spec.name) as terminal:
        result = run_prepared(prepared, resume=resume, reporter=terminal, profile=profile)
    if profile:
        show_profile(console, Path(spec.output.path))
    if result.evaluation:
        console.print(evaluation_table(spec.name, result.evaluation))
    console.print(
        f"model of iteration {result.selected}: [bold]{result.model}[/]  (tier: {result.tier})", soft_wrap=True
    )
    if (report := result.root / "report.html").exists():
        console.print(f"report: [bold]{report}[/]", soft_wrap=True)
    return result


def run_spec(spec: RunSpec, folder: Path, *, resume: bool, reporter: Reporter, profile: bool = False) -> Result:
    """Prepare and run."""
    return run_prepared(prepared_run(spec, folder), resume=resume, reporter=reporter, profile=profile)


def prepared_run(spec: RunSpec, folder: Path) -> "Prepared":
    """Read and check everything that the run needs; writes nothing, but for a GGUF its safetensors in the
    user's cache. A run that cannot fit on this machine is refused before a
    row is read; of another cluster nothing is known yet."""
    from xpo_ray.plan import check_fits, machine_of
    from xpo_ray.preparation import prepare

    spec = with_safetensors(spec, tell_aside)
    if spec.resources.ray_address is None:
        check_fits(spec, machine_of(spec))
    return prepare(spec, folder)


def run_prepared(prepared: "Prepared", *, resume: bool, reporter: Reporter, profile: bool = False) -> Result:
    """Run to the end on Ray."""
    from xpo_ray.actors.driver import run_foreground

    return run_foreground(prepared, resume=resume, reporter=reporter, profile=profile)
