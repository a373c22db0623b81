"""Whether a submitted run can fit at all, as far as the service knows where it will run: on this machine, where the service
starts the Ray head itself; of another cluster what Ray and the operator say. Submission, forks and validation ask; it reads
headers of model files, and no row.
"""

import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from xpo_ray.api.cluster.capacity import GIB
from xpo_ray.api.runs.reservations import cluster_gpus
from xpo_ray.api.services import Services
from xpo_ray.errors import JudgeError, ModelError
from xpo_ray.plan import Machine, Plan, plan, planning, this_machine
from xpo_ray.plan.machine import STORE_SHARE
from xpo_ray.spec.run import RunSpec
from xpo_ray.wire.runs import Reservation

LOOK_EVERY_S = 10.0
"""What a machine has is asked of the system so often: at each of many submissions it would take longer than the check."""


def check_fits(services: Services, spec: RunSpec, reservation: Reservation) -> None:
    """Raises DoesNotFit where what is certain is more than there is; SpecError where it asks for GPUs beyond its reservation. A
    model that cannot be read now is told of when the attempt starts: it may be there by then."""
    with suppress(ModelError, JudgeError):
        planning.check_fits(spec, machine_of_runs(services, spec, reservation))


def planned(services: Services, spec: RunSpec, reservation: Reservation) -> Plan:
    """The plan of a run of the service. Raises a UserError where it could not start, DoesNotFit where it cannot fit."""
    made = plan(spec, machine=machine_of_runs(services, spec, reservation))
    made.check()
    return made


def machine_of_runs(services: Services, spec: RunSpec, reservation: Reservation) -> Machine:
    """This machine, or what is known of the cluster that was joined; with the GPUs that the run reserves. While nobody knows
    how many there are, it reserves none, and those that its spec counts are taken to be there."""
    own = _machine(services.settings.ray_address is None, int(time.monotonic() / LOOK_EVERY_S))
    unknown = reservation.gpus == 0 and cluster_gpus(services) is None
    there = replace(own, gpus=(spec.resources.gpus or 0) if unknown else int(reservation.gpus))
    return there if own.is_the_runs else replace(there, gpu_memory=None, cluster_memory=_cluster_memory(services))


@lru_cache(maxsize=1)
def _machine(is_the_runs: bool, _when: int) -> Machine:
    return this_machine(is_the_runs=is_the_runs)


def _cluster_memory(services: Services) -> int | None:
    """As the operator says; else what Ray counts, and beside it what Ray has taken for the object store."""
    if (said := services.settings.cluster_memory_gib) is not None:
        return int(said * GIB)
    counted = 0.0 if services.totals is None else services.totals.memory_gib
    return int(counted * GIB / (1 - STORE_SHARE)) or None
