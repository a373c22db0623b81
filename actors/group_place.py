"""Where the ranks of a trainer group run: one placement group for each incarnation, waited for with a limit and removed at its
end. Ranks that ask for nothing (on a CPU, by default) need none: they share the cores by their thread counts.
"""

import asyncio
from typing import Any

import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from xpo_ray.errors import PlacementFailed
from xpo_ray.spec.training import ResourcesSpec

Asked = dict[str, float]
"""What one rank asks Ray for, such as {"GPU": 1}."""


def cluster_gpus() -> int:
    """Of all nodes, in use or not."""
    return int(ray.cluster_resources().get("GPU", 0))


def asked_each(resources: ResourcesSpec) -> Asked:
    """What each rank asks for: what the spec says, or one GPU where the cluster has any."""
    if resources.trainer_worker_resources is not None:
        return {name: amount for name, amount in resources.trainer_worker_resources.items() if amount > 0}
    return {"GPU": 1.0} if cluster_gpus() else {}


class GroupPlace:
    """A bundle for each rank, on as few nodes as possible."""

    def __init__(self, name: str, asked: Asked, ranks: int, timeout_s: float) -> None:
        self.asked = asked
        self._ranks = ranks
        self._timeout_s = timeout_s
        self._group = placement_group([asked] * ranks, strategy="PACK", name=name) if asked else None

    def options(self, rank: int) -> dict[str, Any]:
        """Options of the rank's actor."""
        if self._group is None:
            return {}
        own = {k: v for k, v in self.asked.items() if k not in ("CPU", "GPU")}
        return {
            "num_cpus": self.asked.get("CPU", 0),
            "num_gpus": self.asked.get("GPU", 0),
            "resources": own,
            "scheduling_strategy": PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=rank),
        }

    async def ready(self) -> None:
        """Wait until all bundles are there. Raises PlacementFailed, with the reason."""
        if self._group is None or await asyncio.to_thread(self._group.wait, self._timeout_s):
            return
        state = placement_group_table(self._group).get("stats", {}).get("scheduling_state", "unknown")
        self.remove()
        raise PlacementFailed(
            f"resources.trainer_workers: {self._ranks} workers with {_written(self.asked)} each were not placed within "
            f"{self._timeout_s:.0f} s ({state}); {_lacking(self.asked, self._ranks)}; lower resources.trainer_workers, free "
            "what is in use, or raise resources.placement_timeout_s"
        )

    def remove(self) -> None:
        """Give the bundles back; what runs in them ends."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def _lacking(asked: Asked, ranks: int) -> str:
    """What the nodes have, beside what is asked of them."""
    free, whole = ray.available_resources(), ray.cluster_resources()
    counts = [
        f"{name}: {amount * ranks:g} asked, {free.get(name, 0):g} free of {whole.get(name, 0):g}"
        for name, amount in asked.items()
    ]
    return f"the cluster's {len([n for n in ray.nodes() if n['Alive']])} nodes have {', '.join(counts)}"


def _written(asked: Asked) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in asked.items())
