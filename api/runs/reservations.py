"""The GPUs that a run reserves: as many as it will hold by its placement, if the submission does not say. No torch, no Ray."""

from typing import Any

from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.errors import SpecError
from xpo_ray.spec.run import RunSpec
from xpo_ray.wire.runs import Reservation


def reserved(services: Services, spec: RunSpec, asked: Reservation) -> Reservation:
    """The reservation with its GPUs. Raises Refusal where the roles cannot be placed on what is asked for, or on what the
    cluster has. More than it has may be asked for: the run then waits, and the queue says for what."""
    from xpo_ray.plan.gpus import gpu_plan

    if asked.gpus != int(asked.gpus):
        detail = (
            f"reservation.gpus {asked.gpus:g}: a run holds whole GPUs, which its roles share; ask for a whole number"
        )
        raise Refusal(422, "spec_invalid", detail, field="reservation.gpus")
    named = asked.gpus > 0
    gpus = int(asked.gpus) if named else cluster_gpus(services)
    if gpus is None:
        return asked
    try:
        held = gpu_plan(spec, gpus).gpus
    except SpecError as error:
        known = f"reservation.gpus is {gpus}" if named else f"the cluster has {gpus} GPU{'s' * (gpus != 1)}"
        field = "reservation.gpus" if named else "spec.resources"
        raise Refusal(422, "spec_invalid", f"spec.{error} ({known})", field=field) from error
    return asked if named else asked.model_copy(update={"gpus": float(held)})


def cluster_gpus(services: Services) -> int | None:
    """GPUs that the queue may give away: as the operator has set, as the cluster said last, or of this machine where the
    cluster is a local head that has not come up yet; None where nobody knows."""
    from xpo_ray.plan.processes import gpus_here

    settings = services.settings
    if settings.cluster_gpus is not None:
        return int(settings.cluster_gpus)
    if services.totals is not None:
        return int(services.totals.gpus)
    return gpus_here() if settings.ray_address is None else None


def may_take(spec: dict[str, Any], gpus: float) -> dict[str, Any]:
    """The resolved spec of a run, which takes no more GPUs than it has reserved. One that reserved none was submitted when the
    service knew of none, or computes on none: it stays as it is."""
    if gpus < 1:
        return spec
    asked = spec["resources"].get("gpus")
    most = int(gpus) if asked is None else min(asked, int(gpus))
    return {**spec, "resources": {**spec["resources"], "gpus": most}}
