"""Runs of the command line for tests: a tiny world, the command in a process of its own, and what a run left behind."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet

VOWELS = '''"""A reward that a random model can raise: the share of vowels."""


def score(prompt, responses):
    return [sum(c in "aeiou" for c in r) / (1 + len(r)) for r in responses]
'''


def tiny_world(folder: Path, prompts: int = 48, held_out: int = 8, hidden: int = 32) -> dict[str, Any]:
    """A model, pairs, held-out pairs and a judge in a folder; returns the raw spec of a SELM run over them."""
    tiny_model_folder(folder / "base", hidden=hidden)
    pairs = tiny_pairs(prompts + held_out)
    write_parquet(folder / "train.parquet", pairs[:prompts])
    write_parquet(folder / "test.parquet", pairs[prompts:])
    (folder / "vowels.py").write_text(VOWELS)
    return {
        "name": "tiny",
        "seed": 0,
        "model": {"path": "./base"},
        "data": {
            "source": {"kind": "files", "path": "./train.parquet"},
            "evaluation": {"kind": "files", "path": "./test.parquet"},
            "partitions": 2,
            "shard_size": 8,
        },
        "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
        "sampling": {"max_new_tokens": 12},
        "judge": {"kind": "python", "function": "vowels:score"},
        "training": {"learning_rate": 1.0e-3, "batch_size": 8, "checkpoint_every_steps": 2},
        "resources": {"engine_replicas": 1, "gpus": 0, "dashboard": False},
        "output": {"path": "./out"},
    }


def write_spec(folder: Path, spec: dict[str, Any], name: str = "spec.yaml") -> Path:
    """Write a raw spec beside its world."""
    path = folder / name
    path.write_text(yaml.safe_dump(spec))
    return path


def xpo_ray(*args: object, timeout: float = 1000, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **environment}
    )


def model_digest(root: Path) -> str:
    """sha256 over the weights of a finished run."""
    sha = hashlib.sha256()
    for file in sorted((root / "model").glob("*.safetensors")):
        sha.update(file.read_bytes())
    return sha.hexdigest()


def events(root: Path, kind: str) -> list[dict[str, Any]]:
    """The events of one kind of all attempts of a run, in order."""
    lines = [
        line for path in sorted((root / "attempts").glob("*/journal.jsonl")) for line in path.read_text().splitlines()
    ]
    return [e for e in map(json.loads, lines) if e["type"] == kind]
