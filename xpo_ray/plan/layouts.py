"""What lies on each GPU in both layouts: `dedicated`, where all roles work at once, and `colocated`, where they take turns and
engines leave the GPU meanwhile, so that the peak over stages counts. From the roles' needs; starts nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from xpo_ray.errors import SpecError
from xpo_ray.plan.gpus import GpuPlan, gpu_plan
from xpo_ray.plan.memory import ModelSize
from xpo_ray.plan.roles import OnGpu, RoleMemory, roles
from xpo_ray.spec.run import RunSpec

Layout = Literal["dedicated", "colocated"]
LAYOUTS: tuple[Layout, ...] = ("dedicated", "colocated")


@dataclass(frozen=True)
class GpuLoad:
    """One GPU at its fullest."""

    roles: tuple[str, ...]
    """Of each process on it."""
    working: tuple[str, ...]
    """The roles whose turn it is when the most is certain."""
    most: int
    """At whosever turn."""
    least: int


@dataclass(frozen=True)
class LayoutPlan:
    """Roles and GPUs in one layout."""

    layout: Layout
    chosen: bool
    """By the spec."""
    gpus: GpuPlan
    roles: tuple[RoleMemory, ...] = ()
    loads: tuple[GpuLoad, ...] = ()
    """Of each bundle of GPUs; empty where nobody computes on one."""
    fault: str | None = None
    """Why this layout is not possible; never of the chosen one."""

    @property
    def fullest(self) -> GpuLoad | None:
        """The GPU with the most that is certain, and among equals with the most that may be."""
        return max(self.loads, key=lambda load: (load.least, load.most), default=None)

    @property
    def fullest_at_most(self) -> GpuLoad | None:
        """The GPU with the most that may be."""
        return max(self.loads, key=lambda load: load.most, default=None)


def layout_plans(spec: RunSpec, size: ModelSize, cores: int, gpus: int) -> tuple[LayoutPlan, ...]:
    """Both layouts, the chosen one first. Raises SpecError where the chosen one asks for GPUs that are not there."""
    chosen = spec.resources.layout
    other: Layout = "colocated" if chosen == "dedicated" else "dedicated"
    first = _layout_plan(spec, size, cores, gpus, chosen, chosen=True)
    if gpus == 0:  # nothing but GPUs is shared in turns
        return first, replace(first, layout=other, chosen=False)
    try:
        return first, _layout_plan(spec, size, cores, gpus, other, chosen=False)
    except SpecError as error:
        return first, LayoutPlan(other, False, GpuPlan(), fault=str(error))


def _layout_plan(spec: RunSpec, size: ModelSize, cores: int, gpus: int, layout: Layout, *, chosen: bool) -> LayoutPlan:
    resources = spec.resources.model_copy(update={"layout": layout})
    spec = spec.model_copy(update={"resources": resources})
    dealt = gpu_plan(spec, gpus)
    known = roles(spec, size, cores, dealt.gpus and gpus, dealt)
    return LayoutPlan(layout, chosen, dealt, known, tuple(_loads(dealt, known, layout)))


def _loads(dealt: GpuPlan, known: tuple[RoleMemory, ...], layout: Layout) -> Iterable[GpuLoad]:
    """Of every bundle: of several GPUs that one process takes, the first, which has the most."""
    on = {role.role: role.on_gpu for role in known if role.on_gpu is not None}
    for bundle in range(len(dealt.bundles)):
        within = dealt.within(bundle)
        turns = [{role} for role in dict.fromkeys(within)] if layout == "colocated" else [set(within)]
        loads = [_load(within, turn, on) for turn in turns]
        fullest = max(loads, key=lambda load: (load.least, load.most))
        yield replace(fullest, most=max(load.most for load in loads))


def _load(within: tuple[str, ...], working: set[str], on: dict[str, OnGpu]) -> GpuLoad:
    most = sum(on[r].most_bytes if r in working else on[r].resting for r in within)
    least = sum(on[r].least_bytes if r in working else on[r].resting_least for r in within)
    return GpuLoad(within, tuple(dict.fromkeys(r for r in within if r in working)), most, least)
