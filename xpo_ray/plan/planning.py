"""Plan: the bounds of a run in one record, and why it cannot fit where it cannot. The shell and the API show it; nothing is
started or loaded for it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xpo_ray.datasets.files import data_files
from xpo_ray.datasets.reading import count_rows
from xpo_ray.errors import DoesNotFit
from xpo_ray.generation.installed import resolve_engine
from xpo_ray.plan import fit
from xpo_ray.plan.judging import judging_notes
from xpo_ray.plan.layouts import LayoutPlan, layout_plans
from xpo_ray.plan.machine import Machine, this_machine
from xpo_ray.plan.memory import ModelSize
from xpo_ray.plan.objects import ObjectStore, object_store
from xpo_ray.plan.processes import engines_on_gpu
from xpo_ray.plan.roles import RoleMemory
from xpo_ray.plan.work import IterationWork, evaluations, iterations, shards_in_flight
from xpo_ray.spec.data import Source
from xpo_ray.spec.run import RunSpec


@dataclass(frozen=True)
class Plan:
    """All counts and bytes are upper bounds, but those called `least`; None is unknown until the data or the model is there."""

    name: str
    algorithm: str
    prompts: int | None
    evaluation_prompts: int | None
    """0 without data.evaluation."""
    parameters: int | None
    iterations: tuple[IterationWork, ...]
    """Empty where the number of prompts is unknown."""
    evaluation_draws: int | None
    layouts: tuple[LayoutPlan, ...]
    """The chosen one first."""
    objects: ObjectStore
    machine: Machine
    notes: tuple[str, ...]
    refusals: tuple[str, ...]
    """Why it cannot fit; empty where it may."""

    @property
    def roles(self) -> tuple[RoleMemory, ...]:
        """Of the chosen layout."""
        return self.layouts[0].roles

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
        """Of all roles and the object store together, as far as it is known."""
        return fit.most_bytes(self.layouts[0], self.objects)

    @property
    def least_memory_bytes(self) -> int:
        """What of it is certain."""
        return fit.least_bytes(self.layouts[0])

    def check(self) -> None:
        """Raises DoesNotFit where it cannot run."""
        _refuse(self.refusals)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, totals included."""
        totals = {"shards": self.shards, "windows": self.windows, "steps": self.steps, "draws": self.draws}
        sums = {"memory_bytes": self.memory_bytes, "least_memory_bytes": self.least_memory_bytes, "upper_bounds": True}
        layouts = [_layout_json(layout) for layout in self.layouts]
        machine = asdict(self.machine) | {"object_store": self.machine.object_store}
        out = {name: value for name, value in vars(self).items() if name not in ("layouts", "objects", "machine")}
        out |= {"iterations": [asdict(w) for w in self.iterations], "notes": list(self.notes)}
        out |= {"refusals": list(self.refusals), "roles": layouts[0].pop("roles"), "layouts": layouts}
        out |= {"object_store": asdict(self.objects) | {"bytes": self.objects.bytes}, "machine": machine}
        return out | {"cores": self.machine.cores, "machine_bytes": self.machine.memory, "totals": totals} | sums

    def _total(self, counts: list[int]) -> int | None:
        return sum(counts) if counts else None


def plan(spec: RunSpec, rows: int | None = None, machine: Machine | None = None) -> Plan:
    """The plan of a run on this machine, or on another. `rows` stands for the training set's size where only reading it would
    tell.

    Raises DatasetError, ModelError or SpecError where the run could not start; whether it fits is asked of the plan.
    """
    machine = machine or machine_of(spec)
    prompts = _rows(spec.data.source, rows)
    held_out = 0 if spec.data.evaluation is None else _rows(spec.data.evaluation)
    size = ModelSize.of(spec.model.path, spec.model.lora)
    work = () if prompts is None else iterations(spec, prompts)
    planned, layouts, objects = _memory(spec, work, held_out, machine)
    return Plan(
        name=spec.name,
        algorithm=spec.algorithm.kind,
        prompts=prompts,
        evaluation_prompts=held_out,
        parameters=size.parameters,
        iterations=work,
        evaluation_draws=None if held_out is None or prompts is None else held_out * evaluations(spec, work),
        layouts=layouts,
        objects=objects,
        machine=machine,
        notes=(
            *_notes(planned, prompts, size, work),
            *_engine_notes(spec, planned, machine),
            *fit.notes(planned, layouts, objects, machine),
            *judging_notes(spec, held_out, work),
        ),
        refusals=tuple(fit.refusals(planned, layouts, objects, machine)),
    )


def machine_of(spec: RunSpec) -> Machine:
    """This machine, which is the run's where the spec joins no cluster."""
    return this_machine(is_the_runs=spec.resources.ray_address is None)


def with_engine(spec: RunSpec, machine: Machine) -> RunSpec:
    """The spec with the engine that draws there, as far as this installation tells."""
    if spec.sampling.engine != "auto":
        return spec
    engine = resolve_engine(spec, gpu=engines_on_gpu(spec, machine.gpus))
    return spec.model_copy(update={"sampling": spec.sampling.model_copy(update={"engine": engine})})


def _layout_json(layout: LayoutPlan) -> dict[str, Any]:
    """A layout; its roles with their sums, and the fullest GPU."""
    sums = [{"bytes_each": r.bytes_each, "bytes": r.bytes, "least_bytes": r.least_bytes} for r in layout.roles]
    fullest = layout.fullest
    out = asdict(layout) | {"roles": [asdict(r) | more for r, more in zip(layout.roles, sums, strict=True)]}
    return out | {"fullest_gpu": None if fullest is None else asdict(fullest)}


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


def _notes(spec: RunSpec, prompts: int | None, size: ModelSize, work: tuple[IterationWork, ...]) -> list[str]:
    """What a reader of the numbers should know."""
    notes = [
        "every number that is not called certain is an upper bound: over-long prompts and pairs that cannot be judged make it "
        "smaller"
    ]
    if prompts is None:
        notes.append(
            "the number of rows, and with it that of draws and steps, is known only after the dataset has been read; set its "
            "limit, or plan with `xpo-ray validate --rows N`"
        )
    if size.from_config:
        counted = (
            "of the parameters that its config.json says" if size.parameters else "and its architecture is not known"
        )
        notes.append(
            f"{spec.model.path} has no weights yet: planned {counted}; `xpo-ray run` refuses it until they are there"
        )
    elif size.parameters is None:
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
    return notes


def _engine_notes(spec: RunSpec, planned: RunSpec, machine: Machine) -> list[str]:
    """What `auto` stands for where that depends on the installation."""
    if spec.sampling.engine != "auto" or planned.sampling.engine == "vllm" or not engines_on_gpu(spec, machine.gpus):
        return []
    return [
        "sampling.engine: auto takes the transformers engine with what is installed here; where the run has vLLM, plan with "
        "`--set sampling.engine=vllm`"
    ]


def check_fits(spec: RunSpec, machine: Machine) -> None:
    """Refuse a run that certainly does not fit, by its model and its resources alone: no file of rows is opened.

    Raises DoesNotFit; ModelError where the model cannot be read; SpecError where it asks for GPUs that are not there.
    """
    planned, layouts, objects = _memory(spec, (), None, machine)
    _refuse(fit.refusals(planned, layouts, objects, machine))


def local_store(spec: RunSpec, prompts: int, held_out: int) -> int | None:
    """Bytes for the object store of a Ray that is started on this machine for a run over so many prompts; None where Ray's
    default is enough, or where there is no room for more."""
    machine = machine_of(spec)
    _, layouts, objects = _memory(spec, iterations(spec, prompts), held_out, machine)
    return fit.store_size(layouts[0], objects, machine)


def _memory(
    spec: RunSpec, work: tuple[IterationWork, ...], held_out: int | None, machine: Machine
) -> tuple[RunSpec, tuple[LayoutPlan, ...], ObjectStore]:
    """The spec with its engine, both layouts, and the object store."""
    planned, size = with_engine(spec, machine), ModelSize.of(spec.model.path, spec.model.lora)
    in_flight = shards_in_flight(planned, machine.cores, machine.gpus)
    layouts = layout_plans(planned, size, machine.cores, machine.gpus)
    return planned, layouts, object_store(planned, size, work, held_out, in_flight)


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise DoesNotFit("; ".join(reasons))
