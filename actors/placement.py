"""Where actors run: the local Ray of a foreground run, threads per role, and how an actor is made.

On one machine the run owns all cores: actors ask Ray for no CPU of their own, and share the cores by their thread counts
(an engine replica has one thread, as many replicas as cores). GPUs are asked for, by the options that places.py gives.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from xpo_ray.actors.constructors import answering
from xpo_ray.actors.ray_start import begun, session_folder
from xpo_ray.actors.watchdog import PULSE
from xpo_ray.errors import SpecError
from xpo_ray.plan.gpus import gpu_plan
from xpo_ray.plan.processes import gpus_here
from xpo_ray.spec.run import RunSpec
from xpo_ray.spec.training import ResourcesSpec

ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # glibc would give freed tensors back to the system and fault every page in again at the next step, 4 KiB at a time
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_ARENA_MAX": "1",
    # weights travel as buffers beside the pickle, not copied through it; who takes them copies them into a model
    "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS": "1",
}

SPINS = "20000"
"""Turns of a waiting thread before it sleeps, some tens of microseconds: the gap between two operators of a step. Waking it
costs more; waiting longer would take the core from the other processes."""

NO_GPU = "CUDA_VISIBLE_DEVICES"
"""Ray (2.60) sets it for an actor that asks for a GPU or a part of one; one that asks for none sees all those of its node."""

SECRET_NAMES = "XPO_SECRET_NAMES"
"""Names of the driver's variables that are handed to its actors, with commas; their values never go into a runtime_env."""


@dataclass(frozen=True)
class Cluster:
    """The Ray that a run works on, and whether the run started it."""

    dashboard: str | None
    owned: bool

    def close(self) -> None:
        if self.owned:
            ray.shutdown()


def join(namespace: str) -> Cluster:
    """Join the cluster that runs this process as a job."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    context = begun(namespace=namespace, log_to_driver=True, logging_level=logging.ERROR)
    return Cluster(f"http://{context.dashboard_url}" if context.dashboard_url else None, owned=True)


def starts_ray(resources: ResourcesSpec) -> bool:
    """Whether `connect` starts a Ray of its own."""
    return resources.ray_address is None and not ray.is_initialized()


def connect(resources: ResourcesSpec, namespace: str, object_store: int | None = None) -> Cluster:
    """Join the Ray of this process, the one at `ray_address`, or start a local one; that one with an object store of so many
    bytes, None for what Ray takes by default."""
    if ray.is_initialized():
        return Cluster(None, owned=False)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": namespace}
    if resources.ray_address is None:
        options |= {"include_dashboard": resources.dashboard, "object_store_memory": object_store}
        if (folder := session_folder()) is not None:
            options["_temp_dir"] = folder
    logging.getLogger("ray").setLevel(logging.ERROR)
    context = begun(address=resources.ray_address or "local", **options)
    url = context.dashboard_url if resources.dashboard else None
    return Cluster(f"http://{url}" if url else None, owned=True)


def connect_run(spec: RunSpec, namespace: str, object_store: int | None) -> Cluster:
    """The Ray of a run, as `connect`. Raises SpecError where it lacks GPUs."""
    cluster = connect(spec.resources, namespace, object_store)
    try:
        check_gpus(spec)
    except SpecError:
        cluster.close()
        raise
    return cluster


def check_gpus(spec: RunSpec) -> None:
    """Refuse what the Ray of this process, or a local one, has no GPUs for; those of another cluster are counted when it is
    joined. Raises SpecError."""
    if ray.is_initialized():
        gpu_plan(spec, cluster_gpus())
    elif spec.resources.ray_address is None:
        gpu_plan(spec, gpus_here())


def cluster_gpus() -> int:
    """Of all nodes, in use or not."""
    return int(ray.cluster_resources().get("GPU", 0))


def start_actor(
    cls: type,
    name: str,
    *args: Any,
    threads: int = 1,
    pulse: bool = False,
    lanes: int = 1,
    asks: dict[str, Any] | None = None,
    secrets: Sequence[str] = (),
) -> Any:
    """An actor with a readable name, no restarts and no retries of its own: pools decide both. What its constructor raises
    is what its methods raise. `pulse`: its method of
    that name is answered while another one works; its methods then run in a thread, its constructor in the main one. `lanes`:
    calls that it works on at once, each in a thread. `asks`: options of Ray about where it runs and with what; default:
    anywhere, with nothing; one that asks for no GPU sees none. `secrets`: variables of this process that it needs beside
    those of SECRET_NAMES; a cluster that was joined lacks them."""
    crash = {k: v for k, v in os.environ.items() if k.startswith("XPO_CRASH")}
    driver = {"XPO_DRIVER_PID": str(os.getpid())} if crash else {}
    hidden = {} if (asks or {}).get("num_gpus") else {NO_GPU: ""}
    variables = ENVIRONMENT | {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": SPINS} | hidden | crash | driver
    options = {"name": name, "num_cpus": 0, "max_restarts": 0, "max_task_retries": 0, **(asks or {})}
    if lanes > 1:
        options["max_concurrency"] = lanes
    names = [*os.environ.get(SECRET_NAMES, "").split(","), *secrets]
    cls = answering(cls)
    if known := {n: os.environ[n] for n in names if n in os.environ}:
        cls, args = _knowing(cls), (known, *args)
    made = ray.remote(concurrency_groups={PULSE: 1})(cls) if pulse else ray.remote(cls)
    return made.options(**options, runtime_env={"env_vars": variables}).remote(*args)


def _knowing(cls: type) -> type:
    """The class with the run's secrets as its first argument, put into its process before anything else: Ray shows an actor's
    runtime_env to everybody, its arguments to nobody."""

    def begin(self: Any, secrets: dict[str, str], *args: Any) -> None:
        os.environ.update(secrets)
        cls.__init__(self, *args)  # type: ignore[misc]

    return type(cls.__name__, (cls,), {"__init__": begin, "__module__": cls.__module__})


def trainer_threads(resources: ResourcesSpec, workers: int = 1) -> int:
    """Threads of each trainer worker; those of a group share the cores."""
    return resources.trainer_threads or max((os.cpu_count() or 1) // workers, 1)
