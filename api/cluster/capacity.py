"""What the queue may give away: what the operator has set, and for the rest what the cluster says that it has."""

from dataclasses import dataclass

from xpo_ray.api.settings import Settings

GIB = 2**30


@dataclass(frozen=True)
class Totals:
    """Resources of the cluster."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_gib: float = 0.0


def totals_of(settings: Settings, resources: dict[str, float]) -> Totals:
    """Totals from the settings and Ray's own figures."""
    own = Totals(resources.get("CPU", 0.0), resources.get("GPU", 0.0), resources.get("memory", 0.0) / GIB)
    return Totals(
        own.cpus if settings.cluster_cpus is None else settings.cluster_cpus,
        own.gpus if settings.cluster_gpus is None else settings.cluster_gpus,
        own.memory_gib if settings.cluster_memory_gib is None else settings.cluster_memory_gib,
    )
