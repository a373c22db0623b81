"""A SELM run on the real model through the real driver, killed within an iteration and resumed."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.real_model.test_training import chatted
from tests.running import events, model_digest, write_spec, xpo_ray
from tests.tiny import write_parquet
from xpo_ray.storage import LocalStorage, lineage

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(1200)]
JUDGE = '''"""Shorter answers are better."""


def score(prompt, responses):
    return [-float(len(r)) for r in responses]
'''
PAIRS = [
    ("What is the capital of France?", "Paris.", "The capital of France is a city."),
    ("Name a colour.", "Red.", "There are many colours that one could name here."),
    ("What is two and two?", "Four.", "It is a number between three and five."),
    ("Which animal barks?", "A dog.", "Some animals bark, and others do not."),
]


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def spec(folder: Path, model: Path, dtype: str) -> Path:
    """Two iterations of two prompts each."""
    rows = [{"prompt": q, "chosen": turns(q, good), "rejected": turns(q, bad)} for q, good, bad in PAIRS]
    write_parquet(folder / "train.parquet", rows)
    (folder / "short.py").write_text(JUDGE)
    raw: dict[str, Any] = {
        "name": "real",
        "seed": 0,
        "model": {"path": str(model), "dtype": dtype},
        "data": {"source": {"kind": "files", "path": "./train.parquet"}, "partitions": 2, "shard_size": 2},
        "algorithm": {"kind": "selm", "beta": 0.1, "alpha": 0.01},
        "sampling": {"max_new_tokens": 8},
        "judge": {"kind": "python", "function": "short:score"},
        "training": {"learning_rate": 1.0e-5, "batch_size": 1, "checkpoint_every_steps": 1},
        "resources": {"engine_replicas": 1, "gpus": 0, "dashboard": False},
        "output": {"path": "./out"},
    }
    return write_spec(folder, raw)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_killed_run_resumes_as_its_tier_promises(real_model: Path, tmp_path: Path, dtype: str) -> None:
    path = spec(tmp_path, real_model, dtype)
    args = ("run", path, "--set", "output.path=./killed")
    killed = xpo_ray(*args, timeout=600, XPO_CRASH_AT="step.after_ledger:2", XPO_CRASH_MARK=str(tmp_path / "mark"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = xpo_ray(*args, "--resume", "--json", timeout=600)
    assert resumed.returncode == 0, resumed.stderr
    root = tmp_path / "killed"
    attempts = sorted(int(p.name) for p in (root / "attempts").iterdir())
    checkpoints = LocalStorage(root, attempts[-1]).checkpoints()
    assert [(i, s) for c in lineage(checkpoints, checkpoints[-1]) for i, s, _ in c.ledger] == [
        (t, s) for t in (1, 2) for s in (1, 2)
    ]
    fresh = [(e["iteration"], e["shard"], e["stage"]) for e in events(root, "ShardDone") if e["fresh"]]
    assert len(fresh) == len(set(fresh))
    tier = json.loads(resumed.stdout.splitlines()[-1])["tier"]
    assert tier == ("exact" if dtype == "float32" else "replay")
    if dtype == "float32":
        undisturbed = xpo_ray("run", path, "--set", "output.path=./undisturbed", timeout=600)
        assert undisturbed.returncode == 0, undisturbed.stderr
        assert model_digest(root) == model_digest(tmp_path / "undisturbed")
    with torch.no_grad():
        assert "Paris" in chatted(root / "model")
