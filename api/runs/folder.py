"""A run's folder, made when its first attempt begins: run.json says which run it is, for its drivers and for reports."""

from pathlib import Path

from pydantic_core import to_json

from xpo_ray.api.database.tables import Run
from xpo_ray.crashpoints import crash_point
from xpo_ray.spec.loading import digest
from xpo_ray.storage import write_once


def make_folder(root: Path, run: Run) -> None:
    """Write run.json from the run's row, durably, where it is not there yet. Raises DiskFull."""
    if (root / "run.json").exists():
        return
    record = {
        "run_id": run.id,
        "created": run.created_at.timestamp(),
        "spec": run.spec,
        "spec_sha256": digest(run.spec),
    }
    write_once(root / "run.json", to_json(record, indent=1) + b"\n")
    crash_point("run.after_folder")
