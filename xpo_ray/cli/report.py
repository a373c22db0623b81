"""`xpo-ray report`: write the report of a run folder and say where it lies."""

from pathlib import Path


def report_and_show(folder: Path, *, output: Path | None, against: Path | None) -> None:
    """Write the report; prints its path. Raises UserError where a folder holds no run."""
    from xpo_ray.report import write_report

    print(write_report(folder, output, against))
