"""Where the processes of a run lie: one placement group for all of it, held from its start to its end.

A bundle is a GPU that several processes share, the GPUs of one process, or what else a trainer worker asks for;
xpo_ray.plan.gpus says who lies where. An actor that is replaced goes back into its bundle. A run that asks for nothing (on a
CPU, by default) has no group: its actors share the cores by their thread counts.
"""

import asyncio
from collections import Counter
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from xpo_ray.actors.placement import cluster_gpus
from xpo_ray.errors import PlacementFailed
from xpo_ray.plan.gpus import GpuPlan, gpu_plan, taken_gpus
from xpo_ray.plan.processes import trainer_workers
from xpo_ray.spec.run import RunSpec

Asked = dict[str, float]
"""What a bundle holds or a process asks for, such as {"GPU": 1}."""


class Places:
    """The bundles of a run."""

    def __init__(self, name: str, spec: RunSpec) -> None:
        """Ask for them; nobody waits yet. GPUs that the spec counts may still be on their way to the cluster: `ready` waits for
        them. Raises SpecError where the roles do not fit on what there is."""
        cluster = max(cluster_gpus(), spec.resources.gpus or 0)
        self.gpus = taken_gpus(spec, cluster)
        """GPUs that the run may take."""
        self.plan = gpu_plan(spec, cluster)
        self.shared = bool(self.plan.bundles) and spec.resources.layout == "colocated"
        """Whether the trainer and the engines take turns on the same GPUs."""
        self._timeout_s = spec.resources.placement_timeout_s
        asked = spec.resources.trainer_worker_resources or {}
        self._beside = {what: amount for what, amount in asked.items() if what != "GPU" and amount > 0}
        self.bundles = bundles(self.plan, self._beside, trainer_workers(spec, self.gpus))
        self._group = placement_group(self.bundles, strategy="PACK", name=name) if self.bundles else None

    def of(self, role: str, process: int) -> dict[str, Any]:
        """Options of Ray for the actor of a role's process; none where it asks for nothing."""
        share = self.plan.share(role)
        beside = self._beside if role == "trainer" else {}
        if self._group is None or (share is None and not beside):
            return {}
        bundle = len(self.plan.bundles) + process if share is None else share.bundles[process]
        return {
            "num_cpus": beside.get("CPU", 0),
            "num_gpus": 0 if share is None else share.gpus_each,
            "resources": {what: amount for what, amount in beside.items() if what != "CPU"},
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle),
        }

    async def ready(self) -> None:
        """Wait until all bundles are there. Raises PlacementFailed, with the reason."""
        if self._group is None or await asyncio.to_thread(self._group.wait, self._timeout_s):
            return
        state = placement_group_table(self._group).get("stats", {}).get("scheduling_state", "unknown")
        asked = "; ".join(f"{s.role} {s.processes} × {s.gpus_each:g} GPU" for s in self.plan.shares)
        beside = f"each trainer worker {_written(self._beside)}" if self._beside else ""
        self.remove()
        raise PlacementFailed(
            f"resources: the run was not placed within {self._timeout_s:.0f} s ({state}): "
            f"{'; '.join(part for part in (asked, beside) if part)}. {_lacking(self.bundles)}. Free what is in use, take less "
            "(resources.gpus, resources.trainer_workers), or raise resources.placement_timeout_s"
        )

    def remove(self) -> None:
        """Give the bundles back; what runs in them ends."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def bundles(plan: GpuPlan, beside: Asked, workers: int) -> list[Asked]:
    """What to ask Ray for: the GPUs of each bundle, with what the trainer workers in it ask for beside them; for workers
    without a GPU a bundle each."""
    trainer = plan.share("trainer")
    lying = Counter(trainer.bundles if trainer is not None else ())
    held = [
        {"GPU": float(gpus)} | {what: amount * lying[bundle] for what, amount in beside.items() if lying[bundle]}
        for bundle, gpus in enumerate(plan.bundles)
    ]
    return held if trainer is not None or not beside else [*held, *([beside] * workers)]


def _lacking(bundles: list[Asked]) -> str:
    """What the nodes have, beside what is asked of them."""
    free, whole = ray.available_resources(), ray.cluster_resources()
    asked = Counter[str]()
    for bundle in bundles:
        asked.update(bundle)
    counts = [
        f"{what}: {amount:g} asked, {free.get(what, 0):g} free of {whole.get(what, 0):g}"
        for what, amount in asked.items()
    ]
    nodes = len([n for n in ray.nodes() if n["Alive"]])
    return f"The cluster's {nodes} node{'s have' if nodes != 1 else ' has'} {', '.join(counts)}"


def _written(asked: Asked) -> str:
    return ", ".join(f"{amount:g} {what}" for what, amount in asked.items())
