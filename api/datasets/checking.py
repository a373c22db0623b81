"""Has a dataset inspected by a process of its own and says what it found. Raises Refusal for what cannot be read.

The process dies with a damaged file, or at its limits of memory and time; the service goes on.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from xpo_ray.api.datasets.findings import Asked, Findings, Inspected
from xpo_ray.api.problems import Refusal

LIMIT_S = 900.0
COMMAND = (sys.executable, "-m", "xpo_ray.api.datasets.inspection")


def checked(source: dict[str, Any], work: Path, hide: str) -> Findings:
    """What a source holds. `work` is an empty folder for what is read meanwhile; `hide` is left out of messages."""
    scratch = work / ".reading"
    scratch.mkdir()
    try:
        inspected = _ask(Asked(source=source, hide=hide), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if inspected.findings is None:
        raise Refusal(422, "dataset_invalid", inspected.refused or "the dataset cannot be read", field="file")
    return inspected.findings


def _ask(asked: Asked, scratch: Path) -> Inspected:
    environment = {**os.environ, "TMPDIR": str(scratch), "HF_DATASETS_CACHE": str(scratch / "hub")}
    try:
        done = subprocess.run(
            COMMAND,
            input=asked.model_dump_json().encode(),
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            cwd=scratch,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        detail = f"the dataset could not be read within {LIMIT_S:g} s; give it in smaller files, as parquet"
        raise Refusal(422, "dataset_invalid", detail, field="file") from error
    if done.returncode != 0:
        raise Refusal(422, "dataset_invalid", _death(done), field="file")
    return Inspected.model_validate_json(done.stdout.splitlines()[-1])


def _death(done: "subprocess.CompletedProcess[bytes]") -> str:
    last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
    kind = last[0].split(":")[0].rsplit(".", 1)[-1]
    why = "it needs more memory than one dataset may take" if "Memory" in kind else f"its reader failed ({kind:.60})"
    return f"the dataset cannot be read: {why}; write it anew as parquet, in smaller files"
