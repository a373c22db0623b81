"""The first held-out responses of an evaluated model, as trackers show them, read from what the evaluation has committed."""

from typing import Any

from xpo_ray.evaluation.table import held_out_key
from xpo_ray.exports.exporter import Sample
from xpo_ray.spec.run import RunSpec
from xpo_ray.storage import Storage


def held_out_samples(storage: Storage, held_out_id: str, spec: RunSpec, iteration: int) -> tuple[Sample, ...]:
    """The first `output.samples` of them; fewer where the evaluation has fewer."""
    samples: list[Sample] = []
    while (missing := spec.output.samples - len(samples)) > 0:
        shard = len(samples) // spec.data.shard_size
        commit = storage.find(held_out_key(held_out_id, "judged", iteration, shard))
        if commit is None or len(samples) % spec.data.shard_size:
            break
        samples += [_sample(row) for row in storage.read_table(commit).slice(0, missing).to_pylist()]
    return tuple(samples)


def _sample(row: dict[str, Any]) -> Sample:
    prompt = "\n\n".join(f"{message['role']}: {message['content']}" for message in row["prompt"])
    scores = {name: row[name] for name in ("score", "base_score", "previous_score")}
    return Sample(row["prompt_id"], prompt, row["response"], len(row["ids"]), row["ended"], **scores)
