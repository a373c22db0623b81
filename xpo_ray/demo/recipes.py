"""The specs of the demos: SELM on the real model, and three runs in the made-up world that differ in their algorithm alone."""

from pathlib import Path
from typing import Any

ALGORITHMS: dict[str, dict[str, Any]] = {
    "dpo": {"kind": "dpo", "beta": 0.1},
    "iterative_dpo": {"kind": "iterative_dpo", "beta": 0.1},
    "selm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
}


def demo_spec(name: str) -> dict[str, Any]:
    """The raw spec of one of ALGORITHMS, for a folder that holds the demo's world and its base model."""
    return {
        "name": name,
        "seed": 0,
        "model": {"path": "./base"},
        "data": {
            "source": {"kind": "files", "path": "./train.parquet"},
            "evaluation": {"kind": "files", "path": "./test.parquet"},
            "partitions": 3,
            "shard_size": 32,
            "max_prompt_tokens": 64,
        },
        "algorithm": ALGORITHMS[name],
        "sampling": {"temperature": 1.0, "max_new_tokens": 64},
        "judge": {"kind": "python", "function": "xpo_ray.demo.judge:score"},
        "training": {"learning_rate": 2.0e-4, "batch_size": 16},
        "output": {"path": f"./{name}"},
    }


def real_spec(model: Path) -> dict[str, Any]:
    """The raw spec of SELM on a real model, for a folder that holds the questions. recipes/smollm2-selm.yaml has the same
    settings for a user's own data."""
    return {
        "name": "selm",
        "seed": 0,
        "model": {"path": str(model)},
        "data": {
            "source": {"kind": "files", "path": "./train.jsonl"},
            "evaluation": {"kind": "files", "path": "./test.jsonl"},
            "partitions": 2,
            "shard_size": 16,
            "max_prompt_tokens": 96,
        },
        "algorithm": {"kind": "selm", "beta": 0.05, "alpha": 0.01, "decoding": "sample"},
        "sampling": {"temperature": 1.0, "max_new_tokens": 32},
        "judge": {"kind": "python", "function": "xpo_ray.demo.positivity:score"},
        "training": {"learning_rate": 3.0e-5, "batch_size": 8},
        "output": {"path": "./selm"},
    }
