"""TRL's side of the race: its own virtual environment, and laps of trl_child.py in it. against_trl calls this."""

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from race_laps import Lap, read_lap

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "trl-constraints.txt"
WANTED = ("torch", "transformers", "trl", "requests")
"""TRL 1.13 imports requests and does not ask for it."""
QUIET = {"TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def ensure_environment(folder: Path) -> Path:
    """TRL's python; its environment is made where it is missing or the pins have changed."""
    python = folder / "bin" / "python"
    pins = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
    mark = folder / ".installed"
    if mark.exists() and mark.read_text() == pins:
        return python
    print(f"making TRL's environment in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(CONSTRAINTS)]
    subprocess.run([*command, *WANTED], check=True)
    mark.write_text(pins)
    return python


def run_lap(python: Path, task_folder: Path, output: Path, threads: int) -> Lap:
    """One lap in a process of its own."""
    started = time.monotonic()
    _child(python, task_folder, output, threads, "lap")
    return replace(read_lap(output), process_seconds=time.monotonic() - started)


def count_operations(python: Path, task_folder: Path, output: Path, threads: int) -> float:
    """Operations of one update as torch counts them."""
    _child(python, task_folder, output, threads, "count")
    counts: list[float] = json.loads(output.read_text())
    return counts[0]


def _child(python: Path, task_folder: Path, output: Path, threads: int, verb: str) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python), str(HERE / "trl_child.py"), str(task_folder), str(output), str(threads), verb]
    log = output.with_suffix(".log")
    with log.open("w") as file:
        done = subprocess.run(command, env=os.environ | QUIET, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise SystemExit(f"TRL's process ended with {done.returncode}; its last words:\n{log.read_text()[-3000:]}")
