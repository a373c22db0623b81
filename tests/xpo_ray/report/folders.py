"""Run folders made by hand for the tests of the report: a spec, a journal, committed tables; no model and no Ray."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.tables import candidate, pair, preferences
from xpo_ray.attempts import Attempt, open_attempt
from xpo_ray.evaluation.table import JUDGED, held_out_key
from xpo_ray.reporting import (
    DataRead,
    EvaluationDone,
    Event,
    IterationStarted,
    Journal,
    RunFinished,
    RunStarted,
    ShardDone,
    StepDone,
)
from xpo_ray.shards import PREFERENCES
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import replace_file, to_json

HELD_OUT_ID = "abcd1234"
IDENTITY = {"spec": "by hand"}


def spec(root: Path, **changes: Any) -> dict[str, Any]:
    """A resolved spec of a SELM run; changes replace whole keys."""
    raw: dict[str, Any] = {
        "name": "by-hand",
        "seed": 0,
        "model": {"path": "./base"},
        "data": {
            "source": {"kind": "files", "path": "./train.parquet"},
            "evaluation": {"kind": "files", "path": "./test.parquet"},
            "partitions": 2,
        },
        "algorithm": {"kind": "selm", "beta": 0.5, "alpha": 0.01},
        "judge": {"kind": "python", "function": "vowels:score"},
        "output": {"path": str(root)},
    }
    return RunSpec.model_validate(raw | changes).model_dump(mode="json")


@dataclass
class Opened:
    """An attempt under way."""

    attempt: Attempt
    journal: Journal

    def tell(self, *events: Event) -> None:
        for event in events:
            self.journal.emit(event)


@contextmanager
def attempt_in(root: Path, *, resume: bool = False, **changes: Any) -> Iterator[Opened]:
    """The next attempt at the run in a folder; its lock is held within the block."""
    attempt = open_attempt(root, IDENTITY, spec(root, **changes), {"gpu": False, "judge_source": {}}, resume=resume)
    journal = Journal(attempt.folder / "journal.jsonl", attempt.number)
    try:
        yield Opened(attempt, journal)
    finally:
        journal.close()
        attempt.close()


def judged_row(row: int, response: str = "An answer.", prompt: str = "A question?", **changes: Any) -> dict[str, Any]:
    """A row of a held-out table."""
    return {
        "row": row,
        "prompt_id": f"p{row}",
        "prompt": [{"role": "user", "content": prompt}],
        "prompt_ids": [1, 2],
        "response": response,
        "ids": [3, 4, 5],
        "ended": True,
        "logp": -2.0,
        "chosen_logp": -4.0,
        "rejected_logp": -6.0,
        "base_logp": -3.0,
        "score": 1.0,
        "base_score": 0.5,
        "previous_score": 0.5,
        "base_win": 1.0,
        "previous_win": 1.0,
    } | changes


def put_held_out(attempt: Attempt, iteration: int, rows: Sequence[dict[str, Any]], shard: int = 0) -> None:
    """Commit a held-out table."""
    key = held_out_key(HELD_OUT_ID, "judged", iteration, shard)
    attempt.storage.publish_table(key, pa.Table.from_pylist(list(rows), schema=JUDGED))


def put_preferences(attempt: Attempt, iteration: int, scores: Sequence[Sequence[float] | None], shard: int = 0) -> None:
    """Commit a judged shard: per prompt the scores of a reference's draw, the chosen and the rejected; None: not judged."""
    candidates = [candidate("reference", [7, 1]), candidate("chosen", [8, 9, 1]), candidate("rejected", [9, 1])]
    n = len(scores)
    table = preferences([[1, 2]] * n, [candidates] * n, [pair(1, 2, 0)] * n, first_row=100 * shard)
    rows = table.to_pylist()
    for row, values in zip(rows, scores, strict=True):
        row["judgement"]["scores"] = None if values is None else list(values)
        if values is None:
            row["preference"] |= {"outcome": "dropped", "reason": "the judge fell asleep"}
    key = f"iteration-{iteration:04d}/preferences/shard-{shard:05d}"
    attempt.storage.publish_table(key, pa.Table.from_pylist(rows, schema=PREFERENCES))


def step(total: int, iteration: int = 1, *, replayed: bool = False, seconds: float = 0.5, **metrics: float) -> StepDone:
    """A step with the metrics that every step has."""
    told = {
        "loss": 0.7,
        "loss/preference": 0.69,
        "loss/bonus": -0.01,
        "tokens": 40.0,
        "rewards/accuracies": 0.75,
        "rewards/margins": 0.1,
        "rewards/chosen": 0.05,
        "rewards/rejected": -0.05,
        "grad_norm": 1.5,
        "pairs": 8.0,
        "tie_rate": 0.0,
        "drop_rate": 0.0,
        "learning_rate": 1e-4,
        "kappa": 0.005,
    }
    return StepDone(iteration, total, total, told | metrics, seconds, replayed)


def evaluated(iteration: int, reward: float | None, **metrics: float | None) -> EvaluationDone:
    """An evaluation whose reward is one wide to both sides; None where the judge compares without scores."""
    told: dict[str, float | None] = {"prompts": 3.0, "length": 3.0, "eos_rate": 1.0}
    told |= {"kl/k1": 0.2 * iteration, "kl/k1_sem": 0.01, "kl/k3": 0.2 * iteration}
    if reward is not None:
        told |= {"reward": reward, "reward/low": reward - 1, "reward/high": reward + 1}
    if reward is not None and iteration:
        told |= {"gain": reward - 1.0, "gain/low": reward - 1.5, "gain/high": reward - 0.5}
    if iteration:
        told |= {f"win_rate/{rival}{end}": 0.75 for rival in ("base", "previous") for end in ("", "/low", "/high")}
    return EvaluationDone(iteration, told | metrics, 1.0)


def small_run(root: Path, *, hostile: str = "An answer.", name: str = "by-hand", gain: float = 1.0) -> Path:
    """A finished run of two iterations with all that the report shows."""
    with attempt_in(root, name=name) as run:
        run.tell(
            RunStarted(run.attempt.run_id, 1, 2, 4),
            DataRead("source", 20, 16, 1, 3, 0, 2),
            DataRead("evaluation", 3, 3, 0, 0, 0, 0),
        )
        for t in (0, 1, 2):
            if t:
                _iteration(run, t)
            rows = [
                judged_row(
                    i,
                    f"{hostile} {t}",
                    f"Question {i}?",
                    score=float(t + i),
                    logp=-2.0 + 0.1 * i,
                    chosen_logp=-4.0 + gain * t,
                )
                for i in range(3)
            ]
            put_held_out(run.attempt, t, rows)
            run.tell(evaluated(t, 1.0 + t))
        run.tell(RunFinished("succeeded", 9.0, 0, str(root / "model")))
    evaluation = {str(t): {"reward": 1.0 + t} for t in (0, 1, 2)}
    result = {"root": str(root), "model": str(root / "model"), "selected": 2, "tier": "exact", "attempts": 1}
    replace_file(root / "result.json", to_json(result | {"evaluation": evaluation}))
    return root


def _iteration(run: Opened, t: int) -> None:
    put_preferences(run.attempt, t, [[0.5 * t, 2.0, 1.0], [1.0 * t, 3.0, 0.0], None])
    counts = {"prompts": 8.0, "pairs": 6.0, "ties": 1.0, "dropped": 1.0, "identical": 1.0, "failed": 1.0}
    run.tell(
        IterationStarted(t, 8, 1, 2, 0.005, 1e-4),
        ShardDone(t, 0, "candidates", 8, 0.2, True, {"tokens": 80.0}),
        ShardDone(t, 0, "preferences", 8, 0.1, True, counts),
        ShardDone(t, 0, "scored", 8, 0.3, True, {}),
        step(2 * t - 1, t, **{"kl/reference_policy": 0.1}),
        step(2 * t, t),
    )
