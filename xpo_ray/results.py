"""The end of a run: which iterate is the result, and what a user finds in the output folder.

<output>/model/              the selected model, a Hugging Face folder
<output>/metrics.parquet     one row per optimizer step      <output>/samples.parquet   held-out responses by iteration
<output>/evaluation.parquet  one row per evaluated model     <output>/result.json       written last
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.attempts import Attempt
from xpo_ray.crashpoints import crash_point
from xpo_ray.decisions import best_iteration
from xpo_ray.evaluation.table import held_out_key
from xpo_ray.kept_prompts import FOLDER
from xpo_ray.preparation import Prepared
from xpo_ray.reporting import read_journals
from xpo_ray.storage import Checkpoint, LocalStorage, read_json, replace_file, to_json

UNCONFIRMED = "result.unconfirmed.json"


@dataclass(frozen=True)
class Result:
    """A finished run."""

    root: Path
    model: Path
    selected: int
    """The iteration whose model was selected; 0 is the base."""
    tier: Literal["exact", "replay"]
    """`exact`: a disturbed run ends bit-equal to an undisturbed one (DESIGN §4.10)."""
    attempts: int
    evaluation: dict[int, dict[str, float | None]]


def finish_run(prepared: Prepared, attempt: Attempt, evaluation: dict[int, dict[str, float | None]]) -> Result:
    """Select the result and write the folder's tables; may be done again after a kill."""
    spec, root, storage, target = prepared.spec, attempt.root, attempt.storage, attempt.result_folder
    borders = {c.iteration: c for c in storage.checkpoints() if c.step == 0}
    last = max(borders)
    rewards = {t: m.get("reward") for t, m in evaluation.items() if t in borders}
    selected = best_iteration(rewards, last) if spec.evaluation.select == "best" else last
    _put_model(storage, borders[selected], target / "model")
    _write_parquet(target / "metrics.parquet", list(_steps(root)))
    _write_parquet(target / "evaluation.parquet", [{"iteration": t, **m} for t, m in sorted(evaluation.items())])
    _write_parquet(target / "samples.parquet", list(_samples(prepared, storage, sorted(evaluation))))
    result = Result(target, target / "model", selected, tier_of(root), attempt.number, evaluation)
    storage.sweep()
    crash_point("run.before_finish")
    if attempt.lock is not None:
        shutil.rmtree(root / FOLDER, ignore_errors=True)  # no attempt follows
    raw = {**asdict(result), "root": str(target), "model": str(result.model), "chat": prepared.record["chat"]}
    replace_file(target / UNCONFIRMED, to_json(raw))
    if attempt.lock is not None:
        confirm_result(result)
    return result


def confirm_result(result: Result) -> None:
    """Say that the run has finished: the last file. In the service only once the service has taken the attempt's end, which may
    have said so itself."""
    with suppress(FileNotFoundError):
        (result.root / UNCONFIRMED).rename(result.root / "result.json")


def read_result(root: Path) -> Result | None:
    """The result of a finished run, None where the run has not finished."""
    file = root / "result.json"
    if not file.exists():
        return None
    raw = read_json(file)
    evaluation = {int(t): m for t, m in raw["evaluation"].items()}
    return Result(root, root / "model", raw["selected"], raw["tier"], raw["attempts"], evaluation)


def tier_of(root: Path) -> Literal["exact", "replay"]:
    """Exact where all attempts computed in float32 on equal CPUs with the same versions, cores, trainer workers and threads,
    and the transformers engine drew."""
    records = [read_json(p) for p in sorted((root / "attempts").glob("*/attempt.json"))]
    kinds = {json.dumps([r["versions"], _computes_with(r), r["judge_source"]]) for r in records}
    return "exact" if all(map(_is_exact, records)) and len(kinds) == 1 else "replay"


def _is_exact(record: dict[str, Any]) -> bool:
    spec = record["spec"]
    return spec["model"]["dtype"] == "float32" and spec["sampling"]["engine"] != "vllm" and not record["gpu"]


def _computes_with(record: dict[str, Any]) -> list[Any]:
    machine, resources = record["machine"], record["spec"]["resources"]
    workers = resources.get("trainer_workers", 1)  # runs from before there were groups have no such field
    return [machine.get("processor"), machine["cores"], workers, resources["trainer_threads"]]


def _put_model(storage: LocalStorage, checkpoint: Checkpoint, target: Path) -> None:
    """Bring a checkpoint's model into a folder of its own, whole or not at all; an adapter is merged into its base."""
    source = storage.folder(checkpoint) / "model"
    aside = target.with_name(".model-new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    if (source / "adapter_config.json").exists():
        from xpo_ray.adapters import save_merged

        save_merged(source, aside)
    else:
        _link(source, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)


def _link(source: Path, target: Path) -> None:
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:  # a file system without hard links
            shutil.copy2(file, target / file.name)


def _steps(root: Path) -> Iterator[dict[str, Any]]:
    """One row per step; where a step was done again, the last time counts."""
    rows = {
        (e["iteration"], e["step"]): {
            "iteration": e["iteration"],
            "step": e["step"],
            "total_step": e["total_step"],
            "attempt": e["attempt"],
            "seconds": e["seconds"],
            **e["metrics"],
        }
        for e in read_journals(root)
        if e["type"] == "StepDone"
    }
    yield from (rows[key] for key in sorted(rows))


def _samples(prepared: Prepared, storage: LocalStorage, iterations: list[int]) -> Iterator[dict[str, Any]]:
    size, wanted = prepared.spec.data.shard_size, prepared.spec.output.samples
    for t in iterations:
        for shard in range(-(-wanted // size)):
            commit = storage.find(held_out_key(prepared.held_out_id, "judged", t, shard))
            rows = storage.read_table(commit).to_pylist() if commit is not None else []
            for row in rows[: max(wanted - shard * size, 0)]:
                kept = ("prompt_id", "prompt", "response", "ended", "score", "base_score", "previous_score")
                yield {"iteration": t, "tokens": len(row["ids"]), **{k: row[k] for k in kept}}


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    replace_file(path, sink.getvalue().to_pybytes())
