"""Commands and exit codes: 0 ok, 1 the run failed, 2 bad input."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from xpo_ray.cli import datasets, keys, models, runs
from xpo_ray.cli.options import Cpus, Follow, Gpus, MemoryGib, Notes, Priority, RunId
from xpo_ray.cli.plain_text import plain
from xpo_ray.errors import NeedsAttention, RunFailed, SpecError, UserError, XpoRayError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Iterative online preference optimisation on Ray: SELM, XPO, iterative and online DPO.",
)

for _name, _group in {"runs": runs, "datasets": datasets, "models": models, "keys": keys}.items():
    app.add_typer(_group.app, name=_name)

SpecFile = Annotated[Path, typer.Argument(help="YAML file of the run.", metavar="SPEC")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override one key: training.learning_rate=1e-5", metavar="KEY=VALUE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except UserError as error:
        _complain("error", error)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what was committed stays, go on with --resume", file=sys.stderr)
        sys.exit(130)
    except XpoRayError as error:
        _complain(_head(error), error)
        sys.exit(1)


def _head(error: XpoRayError) -> str:
    if isinstance(error, NeedsAttention):
        return "the run is paused, go on with --resume"
    return "the run failed" if isinstance(error, RunFailed) else "error"


def _complain(head: str, error: Exception) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]{head}:[/] ", end="")
    print(plain(error), file=sys.stderr)


@app.command()
def run(
    spec_file: SpecFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where each second of each role went.")] = False,
    no_rehearsal: Annotated[
        bool, typer.Option("--no-rehearsal", help="Begin without trying a small model of the same kind.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a spec to the end in the foreground."""
    from xpo_ray.cli.foreground import run_and_show

    _quiet_libraries()
    if no_rehearsal:
        os.environ["XPO_RAY_NO_REHEARSAL"] = "1"
    folder = spec_file.resolve().parent
    run_and_show(_load(spec_file, overrides), folder, resume=resume, profile=profile, as_json=as_json)


@app.command()
def validate(
    spec_file: SpecFile,
    overrides: Overrides = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read, check and tokenise every row; rehearse the model.")
    ] = False,
    show_tokens: Annotated[
        bool, typer.Option("--show-tokens", help="With --deep: the first prompt and pair token by token.")
    ] = False,
    rows: Annotated[
        int | None, typer.Option(help="Plan with so many rows, where only a download would tell.", min=1)
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="Plan for so many GPUs elsewhere. Default: those of this machine.", min=0)
    ] = None,
    gpu_memory_gib: Annotated[float | None, typer.Option(help="Memory of each of these GPUs.", min=1.0)] = None,
    as_json: AsJson = False,
) -> None:
    """Print the resolved spec and bounds of what the run will do; refuse one that cannot fit."""
    from xpo_ray.cli.validation import Elsewhere, validate_and_show

    _quiet_libraries()
    spec, folder = _load(spec_file, overrides), spec_file.resolve().parent
    there = Elsewhere(gpus, gpu_memory_gib)
    if show_tokens and not deep:
        raise SpecError("--show-tokens shows what --deep reads; give both")
    validate_and_show(
        spec, folder, deep=deep, as_json=as_json, known_rows=rows, elsewhere=there, show_tokens=show_tokens
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec."""
    from xpo_ray.spec.run import RunSpec

    print(json.dumps(RunSpec.model_json_schema(), indent=2))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Output folder of a run, finished or not.", metavar="DIR")],
    output: Annotated[Path | None, typer.Option(help="File to write. Default: report.html in the folder.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Output folder of a second run, to be shown beside it.", metavar="DIR")
    ] = None,
) -> None:
    """Write a run's report: one HTML file that works offline."""
    from xpo_ray.cli.report import report_and_show

    report_and_show(folder, output=output, against=against)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="New or empty folder for all that the demo makes.")] = Path("demo-out"),
    compare: Annotated[
        bool, typer.Option("--compare", help="DPO, iterative DPO and SELM from a small base, in a made-up world.")
    ] = False,
) -> None:
    """SELM on SmolLM2-135M-Instruct, where `make real-model` has fetched it, else --compare. About 5 minutes; no GPU."""
    from xpo_ray.cli.demonstration import run_demo

    _quiet_libraries()
    run_demo(output, compare=compare)


Several = list[str] | None


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8600.")] = None,
    storage: Annotated[Path | None, typer.Option(help="Folder that all nodes see. Default: ./xpo-ray-data.")] = None,
    database_url: Annotated[str | None, typer.Option(help="Default: a SQLite file in the storage folder.")] = None,
    public_url: Annotated[str | None, typer.Option(help="Where people and drivers reach the API.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Dashboard of a Ray cluster; default: a head of its own.")
    ] = None,
    ray_token_file: Annotated[Path | None, typer.Option(help="Token of that cluster.")] = None,
    roots: Annotated[Several, typer.Option("--root", help="Folder below which specs may name files.")] = None,
    repositories: Annotated[Several, typer.Option("--repository", help="Hub repository that specs may name.")] = None,
    plugins: Annotated[Several, typer.Option("--plugin", help="Judge that specs may name: module:function.")] = None,
    plugin_path: Annotated[Several, typer.Option("--plugin-path", help="Folder of plug-ins' modules.")] = None,
    judge_actors: Annotated[Several, typer.Option("--judge-actor", help="Ray actor that may judge.")] = None,
    http_hosts: Annotated[Several, typer.Option("--http-host", help="Host that judges and webhooks may call.")] = None,
    secrets_file: Annotated[Path | None, typer.Option(help="JSON object of secrets that runs may ask for.")] = None,
    lease_s: Annotated[float | None, typer.Option(help="Silence after which a driver is taken for dead.")] = None,
    stop_grace_s: Annotated[float | None, typer.Option(help="Time for a checkpoint before a driver is killed.")] = None,
    admin_key_file: Annotated[Path | None, typer.Option(help="Write the first admin key there, mode 0600.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file with settings.")] = None,
    stop: Annotated[
        bool, typer.Option("--stop-ray", help="End the head that a service here started, and return.")
    ] = False,
) -> None:
    """Serve the REST API and its pages; runs are jobs of a Ray cluster. Every setting is also an XPO_RAY_… variable."""
    from xpo_ray.cli.serving import serve as serve_until_ended
    from xpo_ray.cli.serving import stop_ray

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "storage": storage,
        "database_url": database_url,
        "public_url": public_url,
        "ray_address": ray_address,
        "ray_token_file": ray_token_file,
        "roots": roots,
        "repositories": repositories,
        "plugins": plugins,
        "plugin_path": plugin_path,
        "judge_actors": judge_actors,
        "http_hosts": http_hosts,
        "secrets_file": secrets_file,
        "lease_s": lease_s,
        "stop_grace_s": stop_grace_s,
    }
    flags = {name: value for name, value in given.items() if value is not None}
    if stop:
        stop_ray(config, flags)
    else:
        serve_until_ended(config, admin_key_file, flags)


@app.command()
def submit(
    spec_file: SpecFile,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Instead of the spec's.")] = None,
    priority: Priority = None,
    metadata: Notes = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    memory_gib: MemoryGib = None,
    secrets: Annotated[Several, typer.Option("--secret", help="Name of an operator's secret.")] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Send the local data files along.")] = False,
    follow: Follow = False,
    as_json: AsJson = False,
) -> None:
    """Submit a spec to a service."""
    from xpo_ray.cli.submitting import pairs, raw_spec, reservation, submit_and_show
    from xpo_ray.client import Client

    options = {
        "priority": priority,
        "metadata": pairs(metadata or (), "--metadata"),
        "reservation": reservation(cpus, gpus, memory_gib),
        "secrets": secrets,
    }
    raw = raw_spec(spec_file, overrides or (), name)
    with Client() as client:
        submit_and_show(client, raw, options, upload=upload, follow=follow, as_json=as_json)


@app.command()
def export(
    run_id: RunId,
    to: Annotated[Path, typer.Option(help="Folder for the model.", metavar="DIR")],
    iteration: Annotated[int | None, typer.Option(help="Default: the one that the run selected.", min=0)] = None,
    as_json: AsJson = False,
) -> None:
    """Download the model of a run of a service."""
    from xpo_ray.cli.exporting import export_and_show

    export_and_show(run_id, iteration, to, as_json=as_json)


@app.command()
def login(url: Annotated[str, typer.Argument(help="http://host:port of a service.", metavar="URL")]) -> None:
    """Keep a service's URL and your key for the commands that talk to it."""
    from xpo_ray.cli.service import log_in

    log_in(url)


@app.command()
def cluster(as_json: AsJson = False) -> None:
    """Show what a service's cluster has."""
    from xpo_ray.cli.service import show_cluster

    show_cluster(as_json=as_json)


def _load(spec_file: Path, overrides: list[str] | None) -> Any:
    from xpo_ray.attempts import recorded_seed
    from xpo_ray.spec.loading import load_spec

    return load_spec(spec_file, overrides or (), seed_of=recorded_seed)


def _quiet_libraries() -> None:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
