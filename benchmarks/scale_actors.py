"""Actors that answer at once, for benchmarks/scale.py: the verbs and tables of the real ones, no model behind them.

What is left of a run's time is then what xpo_ray and Ray do themselves. Values are constant; schemas, row counts and the number
of objects are those of a real run.
"""

# ruff: noqa: ARG002  the verbs of the real actors, arguments included

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xpo_ray.actors.clerk import ClerkActor
from xpo_ray.actors.summary import Summary
from xpo_ray.candidates import DRAWN
from xpo_ray.shards import CANDIDATE, JUDGEMENT, PREFERENCE, PREFERENCES, SCORED
from xpo_ray.steps import StepOrder, StepResult
from xpo_ray.storage import Checkpoint, Storage

TOKENS = 16
"""Of every response."""
METRICS = ("loss", "loss/preference", "loss/bonus", "rewards/chosen", "rewards/rejected", "rewards/margins", "entropy")


class InstantModel:
    """Stands for xpo_ray.actors.policy.PolicyActor."""

    def __init__(self, spec: Any, threads: int) -> None:
        pass

    def load(self, source: Any, weights: Any, canary_ids: Sequence[int]) -> tuple[None, float]:
        return None, 0.0

    def draw(self, draw: Any, sampling: Any, contexts: Any, *shards: pa.Table) -> tuple[pa.Table, Summary]:
        rows = sum(s.num_rows for s in shards)
        drawn = _lists(_candidates(rows * draw.samples, contexts[0].version, draw.source), draw.samples)
        responses = float(rows * draw.samples)
        counts = {"responses": responses, "tokens": TOKENS * responses, "ended": responses}
        return pa.table([drawn], schema=DRAWN), Summary(rows, 0.0, counts)

    def score(self, preferences: pa.Table, version: int) -> tuple[pa.Table, Summary]:
        candidates = preferences["candidates"].combine_chunks()
        values = pa.array(np.full(len(candidates.flatten()), -20.0))
        logps = pa.ListArray.from_arrays(pc.subtract(candidates.offsets, candidates.offsets[0]), values)
        columns = [*preferences.columns, logps.cast(SCORED.field("reference_logps").type)]
        return pa.table(columns, schema=SCORED), Summary(preferences.num_rows, 0.0, {})

    def sleep(self) -> tuple[None, None]:
        return None, None


class InstantJudge:
    """Stands for xpo_ray.actors.judge.JudgeActor: the first candidate is the best, the last the worst."""

    def __init__(self, spec: Any, folder: str) -> None:
        pass

    def pulse(self) -> None:
        pass

    def prefer(self, candidates: pa.Table, row: Any, run_seed: int, iteration: int) -> tuple[pa.Table, Summary]:
        rows, count = candidates.num_rows, len(candidates["candidates"][0])
        scores = [float(-i) for i in range(count)]
        judgement = {"status": "judged", "scores": scores, "wins": None, "judge": "instant", "reason": None, "tries": 1}
        preference = {
            "outcome": "pair",
            "chosen": 0,
            "rejected": count - 1,
            "comparators": [0],
            "label": 1.0,
            "weight": 1.0,
            "wins_chosen": 1.0,
            "wins_rejected": 0.0,
            "reason": None,
        }
        columns = [*candidates.columns, _repeat(judgement, JUDGEMENT, rows), _repeat(preference, PREFERENCE, rows)]
        counts = {"pairs": float(rows), "ties": 0.0, "dropped": 0.0, "failed": 0.0}
        return pa.table(columns, schema=PREFERENCES), Summary(rows, 0.0, counts)

    def ready(self) -> tuple[None, dict[str, Any]]:
        return None, {"pid": os.getpid()}


class InstantTrainer:
    """Stands for xpo_ray.actors.trainer.TrainerActor; its checkpoints are real, published files of a few bytes."""

    def __init__(self, spec: Any, storage: Storage, threads: int, checkpoint: Checkpoint | None) -> None:
        self.storage = storage

    def begin(self, reset_optimizer: bool) -> tuple[None, None]:
        return None, None

    def step(self, order: StepOrder, *shards: pa.Table) -> tuple[None, StepResult]:
        sha = hashlib.sha256()
        for piece, table in zip(order.window.slices, shards, strict=True):
            sha.update(table["row"].take(pa.array(piece.rows)).to_numpy().tobytes())
        return None, StepResult(sha.hexdigest(), dict.fromkeys(METRICS, 0.5), 0.0)

    def publish(self, draft: Checkpoint, optimizer: bool) -> tuple[None, Checkpoint]:
        def write(folder: Path) -> None:
            (folder / "model").mkdir()
            (folder / "model" / "model.safetensors").write_bytes(draft.name.encode())

        return None, self.storage.publish_checkpoint(write, replace(draft, files={}))

    def weights(self) -> tuple[dict[str, Any], None]:
        return {}, None

    def canary(self, ids: Sequence[int]) -> tuple[None, float]:
        return None, 0.0

    def ready(self) -> tuple[None, dict[str, Any]]:
        return None, {"pid": os.getpid(), "threads": 1, "why_plain": None}


class ForgetfulClerk(ClerkActor):
    """Lays draws together as the real one does, and publishes nothing: what a run costs without its commits."""

    def publish(self, key: str, table: pa.Table) -> tuple[None, Summary]:
        return None, Summary(table.num_rows, 0.0, {})


def _candidates(count: int, version: int, origin: str) -> pa.StructArray:
    values = {
        "origin": _repeat(origin, pa.string(), count),
        "sample": pa.array(np.zeros(count, np.int32)),
        "version": pa.array(np.full(count, version, np.int32)),
        "text": _repeat("word " * TOKENS, pa.string(), count),
        "ids": _lists(pa.array(np.full(count * TOKENS, 7, np.int32)), TOKENS),
        "ended": _repeat(True, pa.bool_(), count),
    }
    return pa.StructArray.from_arrays([values[f.name] for f in CANDIDATE], fields=list(CANDIDATE))


def _lists(values: pa.Array, each: int) -> pa.ListArray:
    """Lists of `each` values."""
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, each, dtype=np.int32)), values)


def _repeat(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    """The value `count` times; `pa.repeat` does not take nested types."""
    return pa.array([value], kind).take(pa.array(np.zeros(count, np.int32)))
