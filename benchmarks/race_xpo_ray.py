"""xpo_ray's side of the race: `xpo-ray run` as a user runs it, and what its journal and its tables say of the lap.

Nothing is measured inside the product: the journal's time stamps are all there is. against_trl calls this.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pyarrow.parquet as pq
import yaml
from race_flops import counted
from race_laps import DRAW, JUDGE, OTHER, REFERENCE, STEP, Lap
from race_task import Task, read_task

from xpo_ray.algorithms import row_of_iteration
from xpo_ray.chat import Chat
from xpo_ray.generation.engine import sampling_of
from xpo_ray.judges import open_judge
from xpo_ray.lanes import Lanes
from xpo_ray.policy import Policy
from xpo_ray.preferences import comparisons
from xpo_ray.reporting import read_journals
from xpo_ray.schedule import Slice, Window
from xpo_ray.spec import RunSpec, load_spec
from xpo_ray.steps import StepOrder
from xpo_ray.training import Trainer

Event = dict[str, Any]
Settings = dict[str, Any]
SHARD_STAGES = {"candidates": DRAW, "preferences": JUDGE, "scored": REFERENCE}


def best_settings(task: Task, cores: int) -> Settings:
    """A shard for each core, and for each core an engine of the policy, one of the reference and a judge: the stages of a
    fully online window follow each other, so these take turns."""
    resources = {"engine_replicas": cores, "judge_replicas": cores, "trainer_threads": cores, "dashboard": False}
    return {"shard_size": -(-task.batch // cores), "resources": resources}


def run_lap(task_folder: Path, output: Path, settings: Settings) -> Lap:
    """One run in the foreground; `output` is made new."""
    task = read_task(task_folder)
    spec = write_spec(task_folder, task, output, settings)
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-c", "from xpo_ray.cli import main; main()", "run", str(spec)]
    log = spec.with_suffix(".log")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    started = time.monotonic()
    with log.open("w") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    if done.returncode != 0:
        raise SystemExit(f"xpo-ray run ended with {done.returncode}; its last words:\n{log.read_text()[-3000:]}")
    return lap_of(output, seconds)


def write_spec(task_folder: Path, task: Task, output: Path, settings: Settings) -> Path:
    """The spec of a fully online XPO run on the task; `settings` are its shard size and its resources."""
    raw = {
        "name": f"race-{task.name}",
        "seed": task.seed,
        "model": {"path": str(task_folder / "model"), "dtype": "float32"},
        "data": {
            "source": {"kind": "files", "path": str(task_folder / "prompts.jsonl")},
            "shard_size": settings["shard_size"],
            "max_prompt_tokens": task.prompt_tokens,
        },
        "algorithm": {"kind": "xpo", "beta": task.beta, "alpha": task.alpha},
        "sampling": {
            "temperature": task.temperature,
            "max_new_tokens": task.new_tokens,
            "min_new_tokens": task.new_tokens,
        },
        "judge": {"kind": "reward_model", "path": str(task_folder / "reward-model"), "chat_template": "plain"},
        "training": {
            "learning_rate": task.learning_rate,
            "schedule": "constant",
            "warmup_ratio": 0.0,
            "batch_size": task.batch,
        },
        "resources": settings["resources"],
        "output": {"path": str(output)},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    path = output.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def lap_of(output: Path, process_seconds: float) -> Lap:
    """The lap that a finished run made."""
    events = list(read_journals(output))
    steps = [e for e in events if e["type"] == "StepDone"]
    scores = [_scores(output, e["iteration"]) for e in steps]
    began = next(e["at"] for e in events if e["type"] == "RunStarted")
    stages = []
    for before, step in zip([began, *(e["at"] for e in steps)], steps, strict=False):
        own = [e for e in events if e.get("iteration") == step["iteration"]]
        stages.append(_stages(before, own, step))
    return Lap(
        [e["at"] for e in steps],
        stages,
        [s["policy"] for s in scores],
        [s["reference"] for s in scores],
        [e["metrics"]["loss/preference"] for e in steps],
        process_seconds,
    )


def _stages(before: float, events: Sequence[Event], step: Event) -> dict[str, float]:
    """The way of a window from one step to the next: time belongs to the earliest stage that has not ended for all shards."""
    started = next(e["at"] for e in events if e["type"] == "IterationStarted")
    now = max(before, started)
    out = {OTHER: now - before}
    for stage, name in SHARD_STAGES.items():
        end = max(e["at"] for e in events if e["type"] == "ShardDone" and e["stage"] == stage)
        out[name] = max(end - now, 0.0)
        now = max(end, now)
    out[STEP] = step["seconds"]
    out[OTHER] += max(step["at"] - now - step["seconds"], 0.0)
    return out


def _scores(output: Path, iteration: int) -> dict[str, float]:
    """Mean score of the policy's and of the reference's draws of an iteration, from its committed tables."""
    scores: dict[str, list[float]] = {"policy": [], "reference": []}
    for path in _tables(output, iteration, "preferences"):
        for row in pq.read_table(path, columns=["candidates", "judgement"]).to_pylist():
            for candidate, score in zip(row["candidates"], row["judgement"]["scores"], strict=True):
                scores[candidate["origin"]].append(score)
    return {origin: fmean(values) for origin, values in scores.items()}


def count_operations(output: Path) -> float:
    """Operations of the first window as torch counts them: its work done again, with the classes that the actors hold."""
    spec = load_spec(output.with_suffix(".yaml"))
    tables = [pq.read_table(path) for path in _tables(output, 1, "scored")]
    model = _first_model(spec)
    assert spec.judge is not None
    judge = open_judge(spec.judge, output.parent)
    trainer = Trainer(spec.training, spec.model.path, "float32")
    trainer.lanes = Lanes(trainer.device, 1)  # torch counts what this thread does
    window = Window(1, 1, 1, tuple(Slice(1, k, tuple(range(t.num_rows))) for k, t in enumerate(tables)))
    counts: list[float] = []
    with counted(counts):
        for table in tables:
            prompts = table["prompt_ids"].to_pylist()
            for _ in ("policy", "reference"):
                model.engine.draw(prompts, range(len(prompts)), sampling_of(spec.sampling, False))
            judge.judge(comparisons(table))
            model.score(table, 0)
        trainer.step(StepOrder(window, 1, 1e-6, 1e-6, row_of_iteration(spec.algorithm, 1)), tables)
    return counts[0]


def _first_model(spec: RunSpec) -> Policy:
    model = Policy(spec, Chat.load(spec.model.path, None, spec.model.chat_template))
    model.load(spec.model.path, 0)
    return model


def _tables(output: Path, iteration: int, stage: str) -> list[Path]:
    """The committed tables of an iteration's shards, in order."""
    folder = output / "attempts" / "0001" / "tables" / f"iteration-{iteration:04d}" / stage
    return sorted(folder.glob("*.parquet"))
