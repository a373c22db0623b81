"""What the runs of the service's tests work on: a tiny model, pairs and a judge that takes its time; and the spec to submit."""

from pathlib import Path
from typing import Any

import yaml

from tests.running import tiny_world, write_spec, xpo_ray

JUDGE = '''"""Vowels, taking its time: so that there is a moment to disturb."""

import time


def score(prompt, responses):
    time.sleep({seconds})
    return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]
'''


def make_world(
    folder: Path, *, judge_s: float = 0.0, prompts: int = 48, iterations: int = 2, hidden: int = 32
) -> dict[str, Any]:
    """Fill a folder; returns what is submitted: a SELM run over it, with absolute paths and without an output."""
    raw: dict[str, Any] = tiny_world(folder, prompts, hidden=hidden)
    (folder / "vowels.py").write_text(JUDGE.format(seconds=judge_s))
    raw["model"] = {"path": str(folder / "base")}
    raw["data"]["source"]["path"] = str(folder / "train.parquet")
    raw["data"]["evaluation"]["path"] = str(folder / "test.parquet")
    raw["data"]["partitions"] = iterations
    del raw["output"]
    return raw


def undisturbed(folder: Path, spec: dict[str, Any]) -> Path:
    """The result of the same run in the foreground, where nothing happens to it."""
    target = folder / "undisturbed"
    done = xpo_ray("run", write_spec(folder, {**spec, "output": {"path": str(target)}}))
    assert done.returncode == 0, done.stderr
    return target


def settings_file(path: Path, **settings: Any) -> Path:
    """Settings that have no flag, for `--config`."""
    path.write_text(yaml.safe_dump(settings))
    return path
