"""Which process of a run gets which GPU: the plan shows it, the driver places its actors by it, the service reserves by it.

    dedicated, 4 GPUs   [trainer/0 trainer/1 on one each] [policy/0 judge/0] [base/0]
    colocated, 2 GPUs   [trainer/0 policy/0 base/0 judge/1] [trainer/1 policy/1 judge/0]

A bundle is one GPU, or as many as one process takes whole. Processes that share a bundle's GPU take equal parts of it, unless
the spec says how much; parts are for Ray's bookkeeping and limit nobody's memory. Arithmetic only.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import NoReturn

from xpo_ray.errors import SpecError
from xpo_ray.plan.processes import engine_gpus, judges, on_gpu, pool_sizes, trainer_gpus, trainer_workers
from xpo_ray.spec.run import RunSpec

GRAIN = 10_000
"""Ray counts in ten-thousandths of a GPU."""


@dataclass(frozen=True)
class GpuShare:
    """What the processes of a role take: GPUs each, and the bundle of each process."""

    role: str
    processes: int
    gpus_each: float
    bundles: tuple[int, ...]


@dataclass(frozen=True)
class GpuPlan:
    """GPUs of each bundle, and who is in them; both empty where nobody computes on a GPU."""

    bundles: tuple[int, ...] = ()
    shares: tuple[GpuShare, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs that the run holds from its start to its end."""
        return sum(self.bundles)

    def share(self, role: str) -> GpuShare | None:
        """Of a role; None where its processes compute on the CPU."""
        return next((share for share in self.shares if share.role == role), None)

    def within(self, bundle: int) -> tuple[str, ...]:
        """The role of each process in a bundle."""
        return tuple(share.role for share in self.shares for each in share.bundles if each == bundle)


@dataclass(frozen=True)
class _Wanted:
    """A role's processes, and GPUs of each; None for an equal part of what is shared."""

    role: str
    processes: int
    each: float | None

    @property
    def whole(self) -> bool:
        return self.each is not None and self.each >= 1


def gpu_plan(spec: RunSpec, gpus: int) -> GpuPlan:
    """Who gets which of a cluster's GPUs. Raises SpecError where the spec asks for more than there are, or for parts that
    do not fit."""
    taken = taken_gpus(spec, gpus)
    if taken == 0:
        return _none(spec)
    wanted = _wanted(spec, taken)
    _check(spec, wanted)
    whole, shared = [w for w in wanted if w.whole], [w for w in wanted if not w.whole]
    left = taken - sum(w.processes * int(w.each or 0) for w in whole)
    if left < bool(shared):
        _refuse_many(spec, taken, whole, shared)
    places = min(left, sum(w.processes for w in shared))
    shares = [*(_deal(shared, places) if shared else ()), *_alone(whole, places)]
    _check_ranks(shares, taken)
    own = [int(w.each or 0) for w in whole for _ in range(w.processes)]
    order = [w.role for w in wanted]
    return GpuPlan((*[1] * places, *own), tuple(sorted(shares, key=lambda s: order.index(s.role))))


def taken_gpus(spec: RunSpec, gpus: int) -> int:
    """How many of a cluster's GPUs the run may take. Raises SpecError where there are fewer than it says."""
    asked = spec.resources.gpus
    if asked is not None and asked > gpus:
        raise SpecError(
            f"resources.gpus is {asked}, there {'is' if gpus == 1 else 'are'} {gpus}; lower it, leave it out, or join a "
            "cluster that has them (resources.ray_address)"
        )
    return gpus if asked is None else asked


def _wanted(spec: RunSpec, gpus: int) -> list[_Wanted]:
    """Each role that computes on GPUs. The trainer is the first, so that its workers lie on different ones."""
    apart = spec.resources.layout == "dedicated" and gpus > 1
    training = trainer_gpus(spec)
    trainer = _Wanted("trainer", trainer_workers(spec, gpus), 1.0 if training is None and apart else training)
    engines = [_Wanted(role, n, engine_gpus(spec)) for role, n in pool_sizes(spec, 1, gpus).items()]
    asked = spec.resources.judge_gpus
    judging = [_Wanted(role, n, asked) for role, judge, n in judges(spec, 1, gpus) if on_gpu(spec, judge)]
    return [w for w in (trainer, *engines, *judging) if w.processes and w.each != 0]


def _none(spec: RunSpec) -> GpuPlan:
    """Without GPUs everybody computes on the CPU, and nobody may have asked for one by name."""
    resources = spec.resources
    named = {"engine_gpus": resources.engine_gpus, "judge_gpus": resources.judge_gpus}
    for name, asked in (named | {"trainer_worker_resources.GPU": trainer_gpus(spec)}).items():
        if asked:
            raise SpecError(
                f"resources.{name} is {asked:g}, and the run has no GPU; leave it out to compute on the CPU"
            )
    return GpuPlan()


def _check(spec: RunSpec, wanted: list[_Wanted]) -> None:
    """Raises SpecError for what no process can take, and where roles that take turns want GPUs of their own."""
    resources, said = spec.resources, spec.resources.engine_gpus
    if said and resources.engine_tensor_parallel not in (1, said):
        raise SpecError(
            f"resources.engine_gpus is {said:g}, and resources.engine_tensor_parallel cuts an engine over "
            f"{resources.engine_tensor_parallel} GPUs; leave engine_gpus out"
        )
    for w in wanted:
        if w.whole and w.each != int(w.each or 0):
            raise SpecError(
                f"resources: {w.each:g} GPUs for each process of the {w.role}; one takes a part of a GPU, below 1, or a whole "
                "number of them"
            )
        if w.whole and resources.layout == "colocated":
            parallel = resources.engine_tensor_parallel
            why = f"resources.engine_tensor_parallel {parallel}" if parallel > 1 else f"{w.each:g} for each process"
            raise SpecError(
                f"resources.layout: colocated shares each GPU among all roles, and the {w.role} asks for whole ones: {why}; "
                "set resources.layout: dedicated, or leave that out"
            )
    if resources.engine_tensor_parallel > 1 and spec.sampling.engine == "transformers":
        raise SpecError(
            f"resources.engine_tensor_parallel is {resources.engine_tensor_parallel}, and only vLLM cuts a model over several "
            "GPUs; set sampling.engine: vllm, or leave it out"
        )


def _deal(wanted: list[_Wanted], places: int) -> list[GpuShare]:
    """Processes dealt out in turn to shared GPUs; those that say nothing take equal parts of what the others leave. Raises
    SpecError where nothing is left."""
    number = count()
    dealt = {w.role: tuple(next(number) % places for _ in range(w.processes)) for w in wanted}
    said, equal = Counter[int](), Counter[int]()
    for w in wanted:
        said.update({place: n * round((w.each or 0.0) * GRAIN) for place, n in Counter(dealt[w.role]).items()})
        equal.update(dealt[w.role] if w.each is None else ())
    part = min(((GRAIN - said[place]) // n for place, n in equal.items()), default=GRAIN)
    if part <= 0 or max(said.values()) > GRAIN:
        _refuse_parts(wanted, places)
    return [GpuShare(w.role, w.processes, part / GRAIN if w.each is None else w.each, dealt[w.role]) for w in wanted]


def _alone(wanted: list[_Wanted], first: int) -> list[GpuShare]:
    """Processes with GPUs of their own, in bundles from `first` on."""
    number = count(first)
    return [
        GpuShare(w.role, w.processes, float(w.each or 0), tuple(next(number) for _ in range(w.processes)))
        for w in wanted
    ]


def _check_ranks(shares: list[GpuShare], gpus: int) -> None:
    """Workers that train together need a GPU each: NCCL takes no two on one."""
    for share in shares:
        if share.role == "trainer" and len(set(share.bundles)) < share.processes:
            raise SpecError(
                f"resources.trainer_workers: {share.processes} workers on {gpus} GPU{'s' * (gpus != 1)}; workers that train "
                "together need a GPU each: lower trainer_workers, or set it to auto"
            )


def _refuse_parts(wanted: list[_Wanted], places: int) -> NoReturn:
    asked = ", ".join(
        f"{w.role} {w.processes} × {'an equal part' if w.each is None else f'{w.each:g}'}" for w in wanted
    )
    raise SpecError(
        f"resources: {asked} do not fit on {places} GPU{'s' * (places != 1)}: the parts on one add up to more than 1; lower "
        "resources.engine_gpus or resources.judge_gpus, or the numbers of processes"
    )


def _refuse_many(spec: RunSpec, taken: int, whole: list[_Wanted], shared: list[_Wanted]) -> NoReturn:
    """More GPUs than there are: who asks for what, and what can be changed."""
    asked = [f"{w.role} {w.processes} × {w.each:g}" for w in whole]
    total = sum(w.processes * int(w.each or 0) for w in whole)
    if shared:
        asked.append(f"{', '.join(w.role for w in shared)} at least 1 together")
    resources = spec.resources
    said = {
        "trainer_workers": resources.trainer_workers not in ("auto", 1),
        "trainer_worker_resources": trainer_gpus(spec) is not None,
        "engine_replicas": (resources.engine_replicas or 1) > 1,
        "engine_tensor_parallel": resources.engine_tensor_parallel > 1,
        "engine_gpus": resources.engine_gpus is not None,
        "judge_replicas": (resources.judge_replicas or 1) > 1,
        "judge_gpus": resources.judge_gpus is not None,
    }
    lower = ", ".join(f"resources.{name}" for name, is_said in said.items() if is_said)
    turns = (
        ""
        if resources.engine_tensor_parallel > 1
        else "; or let all roles take turns on the same GPUs (resources.layout: colocated)"
    )
    total += bool(shared)
    raise SpecError(
        f"resources: the run asks for {total} GPUs and may take {taken}: {'; '.join(asked)}. Lower {lower}{turns}"
    )
