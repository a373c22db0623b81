"""A run folder as the report reads it: spec, records, history, status, committed tables. Reads only; takes no lock.

Raises OutputError for a folder that holds no run.
"""

import fcntl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from xpo_ray.errors import OutputError
from xpo_ray.report.history import History
from xpo_ray.report.tables import CommittedTables
from xpo_ray.reporting import read_journals
from xpo_ray.results import Result, read_result, tier_of
from xpo_ray.spec.run import RunSpec, at_iteration
from xpo_ray.storage import read_json


@dataclass(frozen=True)
class RunFolder:
    """A run on disk, finished or not."""

    root: Path
    run: dict[str, Any]
    attempts: tuple[dict[str, Any], ...]
    """The records of the attempts, first to last."""
    history: History

    @classmethod
    def open(cls, root: Path) -> "RunFolder":
        """Read a run's records and journals."""
        root = root.resolve()
        if not (root / "run.json").is_file():
            raise OutputError(f"{root} is no run folder: it has no run.json; name the folder in a run's output.path")
        records = tuple(read_json(p) for p in sorted((root / "attempts").glob("*/attempt.json")))
        if not records:
            raise OutputError(
                f"{root} holds a run without attempts: no attempts/*/attempt.json yet; wait for its start"
            )
        return cls(root, read_json(root / "run.json"), records, History.of(read_journals(root)))

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The resolved spec of the last attempt."""
        spec: dict[str, Any] = self.attempts[-1]["spec"]
        return spec

    @cached_property
    def run_spec(self) -> RunSpec:
        return RunSpec.model_validate(self.spec)

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    def beta(self, iteration: int) -> float:
        """β of iteration 1..T."""
        return at_iteration(self.run_spec.algorithm.beta, iteration)

    @cached_property
    def result(self) -> Result | None:
        return read_result(self.root)

    @cached_property
    def status(self) -> str:
        """succeeded, failed, running, or stopped: an attempt that was killed says nothing."""
        last = self.history.attempts[-1] if self.history.attempts else None
        told = last is not None and last.number == self.attempts[-1]["attempt"]
        if last is not None and told and last.status != "unfinished":
            return last.status
        return "running" if _locked(self.root / "run.lock") else "stopped"

    @property
    def tier(self) -> str:
        return tier_of(self.root)

    @cached_property
    def tables(self) -> CommittedTables:
        return CommittedTables.of(self.root)


def _locked(path: Path) -> bool:
    """Whether a living driver holds the folder."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
