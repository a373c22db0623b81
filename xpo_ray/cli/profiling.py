"""The end of `xpo-ray run --profile`: where each second of each role went, as a table."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from xpo_ray.cli.terminal import plain_table
from xpo_ray.profile import PROFILE
from xpo_ray.storage import read_json

LEAST_SHARE = 0.005
"""Work and waiting under this share of the attempt are not shown."""


def show_profile(console: Console, root: Path) -> None:
    """Print the profile of the newest attempt."""
    path = max((root / "attempts").glob(f"*/{PROFILE}"))
    profile = read_json(path)
    console.print(profile_table(profile))
    console.print(f"profile: {path}", soft_wrap=True, highlight=False)


def profile_table(profile: dict[str, Any]) -> Table:
    """One row per process: share at work, seconds by work, seconds by whom it waited for."""
    total = profile["seconds"]
    table = plain_table(f"where the {total:.1f} s of the attempt went, by process")
    table.add_column("process", no_wrap=True)
    table.add_column("busy", justify="right", no_wrap=True)
    table.add_column("at work on, s")
    table.add_column("waiting for, s")
    for role in profile["roles"]:
        busy = sum(role["work"].values()) / total
        hand_over = f"\n(of it hand-over {role['hand_over']:.1f})" if role["hand_over"] > LEAST_SHARE * total else ""
        table.add_row(
            role["role"], f"{busy:.0%}", _parts(role["work"], total) + hand_over, _parts(role["waiting"], total)
        )
    return table


def _parts(seconds: dict[str, float], total: float) -> str:
    shown = {name: s for name, s in sorted(seconds.items(), key=lambda item: -item[1]) if s >= LEAST_SHARE * total}
    return ", ".join(f"{name} {s:.1f}" for name, s in shown.items()) or "–"
