"""What both demos share: one Ray for all of their runs, and a run whose spec is left beside its folder."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from xpo_ray.cli.foreground import prepared_run, run_prepared
from xpo_ray.cli.terminal import Terminal
from xpo_ray.results import Result
from xpo_ray.spec.loading import resolve


@contextmanager
def one_ray(console: Console, heading: str) -> Iterator[None]:
    """A Ray with its dashboard, which the runs within join."""
    from xpo_ray.actors.placement import connect
    from xpo_ray.spec.training import ResourcesSpec

    with console.status("starting Ray"):
        cluster = connect(ResourcesSpec(), "demo")
    console.print(f"\n[bold]{heading}[/], dashboard at {cluster.dashboard}", highlight=False, soft_wrap=True)
    try:
        yield
    finally:
        cluster.close()


def run_one(console: Console, output: Path, raw: dict[str, Any]) -> Result:
    """Run a raw spec whose paths are relative to the demo's folder; it is written there, to be changed and run again."""
    (output / f"{raw['name']}.yaml").write_text(_as_yaml(raw), encoding="utf-8")
    prepared = prepared_run(resolve(json.loads(json.dumps(raw)), (), output.resolve()), output.resolve())
    with Terminal(console, raw["name"]) as terminal:
        return run_prepared(prepared, resume=False, reporter=terminal)


def _as_yaml(raw: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(raw, sort_keys=False)
    return text
