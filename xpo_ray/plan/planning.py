"""Plan: the upper bounds of a run in one record. The shell and the API show it; nothing is started or loaded for it."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from xpo_ray.datasets.files import count_rows, data_files
from xpo_ray.plan.judging import judging_notes
from xpo_ray.plan.memory import ModelSize, RoleMemory, machine_bytes, roles
from xpo_ray.plan.work import IterationWork, evaluations, iterations
from xpo_ray.spec.data import Source
from xpo_ray.spec.run import RunSpec


@dataclass(frozen=True)
class Plan:
    """All counts and bytes are upper bounds; None is unknown until the data or the model is there."""

    name: str
    algorithm: str
    prompts: int | None
    evaluation_prompts: int | None
    """0 without data.evaluation."""
    parameters: int | None
    iterations: tuple[IterationWork, ...]
    """Empty where the number of prompts is unknown."""
    evaluation_draws: int | None
    roles: tuple[RoleMemory, ...]
    cores: int
    machine_bytes: int
    notes: tuple[str, ...]

    @property
    def shards(self) -> int | None:
        return self._total([w.shards for w in self.iterations])

    @property
    def windows(self) -> int | None:
        return self._total([w.windows for w in self.iterations])

    @property
    def steps(self) -> int | None:
        return self._total([w.steps for w in self.iterations])

    @property
    def draws(self) -> int | None:
        return self._total([w.draws for w in self.iterations])

    @property
    def memory_bytes(self) -> int:
        """Of all roles together, as far as it is known."""
        return sum(role.bytes for role in self.roles)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, totals included."""
        totals = {"shards": self.shards, "windows": self.windows, "steps": self.steps, "draws": self.draws}
        parts = [{"bytes_each": role.bytes_each, "bytes": role.bytes} for role in self.roles]
        out = asdict(self)
        out["iterations"], out["notes"] = list(out["iterations"]), list(out["notes"])
        out["roles"] = [role | more for role, more in zip(out["roles"], parts, strict=True)]
        return out | {"totals": totals, "memory_bytes": self.memory_bytes, "upper_bounds": True}

    def _total(self, counts: list[int]) -> int | None:
        return sum(counts) if counts else None


def plan(spec: RunSpec, rows: int | None = None) -> Plan:
    """The plan of a run. `rows` stands for the training set's size where only reading it would tell.

    Raises DatasetError, ModelError or SpecError where the run could not start.
    """
    prompts = _rows(spec.data.source, rows)
    held_out = 0 if spec.data.evaluation is None else _rows(spec.data.evaluation)
    size = ModelSize.of(spec.model.path, spec.model.lora)
    work = () if prompts is None else iterations(spec, prompts)
    cores = os.cpu_count() or 1
    known = roles(spec, size, cores)
    return Plan(
        name=spec.name,
        algorithm=spec.algorithm.kind,
        prompts=prompts,
        evaluation_prompts=held_out,
        parameters=size.parameters,
        iterations=work,
        evaluation_draws=None if held_out is None or prompts is None else held_out * evaluations(spec, work),
        roles=known,
        cores=cores,
        machine_bytes=machine_bytes(),
        notes=(*_notes(spec, prompts, size, work, known), *judging_notes(spec, held_out, work)),
    )


def _rows(source: Source, said: int | None = None) -> int | None:
    """Rows of a source at most: as its files count them, else as `said`, and not above its limit. None: not known."""
    rows = _counted(source)
    bounds = [n for n in (said if rows is None else rows, source.limit) if n is not None]
    return min(bounds, default=None)


def _counted(source: Source) -> int | None:
    """Rows by the files' own counts; None where they can be known only by reading them."""
    if source.kind == "hub":
        return None
    counts = [count_rows(file) for file in data_files(source.path)]
    known = [n for n in counts if n is not None]
    return sum(known) if len(known) == len(counts) else None


def _notes(
    spec: RunSpec, prompts: int | None, size: ModelSize, work: tuple[IterationWork, ...], known: tuple[RoleMemory, ...]
) -> list[str]:
    """What a reader of the numbers should know."""
    notes = ["every number is an upper bound: over-long prompts and pairs that cannot be judged make it smaller"]
    if prompts is None:
        notes.append(
            "the number of rows, and with it that of draws and steps, is known only after the dataset has been read; set its "
            "limit, or plan with `xpo-ray validate --rows N`"
        )
    if size.parameters is None:
        notes.append(
            f"{spec.model.path} is a hub repository: its size is known after the download, and memory is without it; with "
            "the path of a downloaded folder it is planned"
        )
    if size.adapted is not None:
        notes.append(f"model.lora trains {size.adapted.parameters:,} parameters; all others stay as they are")
    accumulated = sum(w.windows for w in work)
    fresh = sum(-(-w.prompts // spec.training.batch_size) for w in work)
    if accumulated > fresh:
        notes.append(
            f"data: accumulate trains on all partitions so far: {accumulated * spec.training.epochs} steps, "
            f"fresh data would take {fresh * spec.training.epochs}"
        )
    total, machine = sum(role.bytes for role in known), machine_bytes()
    if total > machine:
        notes.append(
            f"memory: up to {total / 1e9:.1f} GB, this machine has {machine / 1e9:.1f} GB; lower "
            "resources.engine_replicas, training.micro_batch_tokens or data.shard_size"
        )
    return notes
