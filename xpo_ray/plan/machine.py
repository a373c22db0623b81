"""What a machine has: cores, memory, shared memory, GPUs. Of this one, as the system says; or as told, so that a laptop can
plan for a cluster. The plan compares with it; imports neither torch nor Ray.
"""

import os
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from xpo_ray.errors import UserError
from xpo_ray.plan.processes import gpus_here

GIB = 2**30
QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
QUERY_S = 10.0
STORE_SHARE = 0.3
"""Of the memory that is free when it starts, which Ray 2.60 takes for its object store."""
MOST_STORE = 200_000_000_000
STORE_WITHOUT_SHM = 10_000_000_000
"""Up to here Ray lays the store on the disk where /dev/shm is smaller; above, it takes what /dev/shm has."""
SHM_SHARE = 0.95


@dataclass(frozen=True)
class Machine:
    """Sizes in bytes; 0 GPUs have size None, and so has a GPU whose size nobody said."""

    cores: int
    memory: int
    free_memory: int
    shared_memory: int
    """Free in /dev/shm."""
    disk: int
    """Free where Ray lays what does not fit into its object store."""
    gpus: int = 0
    gpu_memory: int | None = None
    """Of the smallest GPU."""
    is_the_runs: bool = True
    """Whether the run's processes are on this machine; else its memory says nothing about the run."""
    cluster_memory: int | None = None
    """Of all machines of the cluster that the run joins; None: not known."""

    @property
    def memory_of_run(self) -> int | None:
        """What all processes of the run share; None: not known."""
        return self.memory if self.is_the_runs else self.cluster_memory

    def with_gpus(self, gpus: int | None, gpu_memory_gib: float | None) -> "Machine":
        """The machine of a run that was told to have these GPUs; what is not told stays. Raises UserError for a size of GPUs
        that there are none of."""
        if gpus is None and gpu_memory_gib is None:
            return self
        count = self.gpus if gpus is None else gpus
        if gpu_memory_gib is not None and count == 0:
            raise UserError("--gpu-memory-gib: there are no GPUs here; say how many to plan for with --gpus N")
        size = self.gpu_memory if gpu_memory_gib is None else int(gpu_memory_gib * GIB)
        return replace(self, gpus=count, gpu_memory=size if count else None, is_the_runs=gpus is None)

    @property
    def object_store(self) -> int:
        """What Ray takes for its object store by default: a share of the free memory, within what /dev/shm has."""
        cap = max(STORE_WITHOUT_SHM, int(self.shared_memory * SHM_SHARE))
        return min(int(self.free_memory * STORE_SHARE), cap, MOST_STORE)

    @property
    def store_on_disk(self) -> bool:
        """Whether that store lies on the disk, because /dev/shm is smaller."""
        return self.shared_memory < self.object_store


def this_machine(*, is_the_runs: bool = True) -> Machine:
    """What the system says."""
    gpus = gpus_here()
    return Machine(
        cores=os.cpu_count() or 1,
        memory=machine_bytes(),
        free_memory=free_bytes(),
        shared_memory=_free_in(Path("/dev/shm")),
        disk=_free_in(Path(tempfile.gettempdir())),
        gpus=gpus,
        gpu_memory=_gpu_bytes() if gpus else None,
        is_the_runs=is_the_runs,
    )


def machine_bytes() -> int:
    """Memory of this machine, or of the container that we are in."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(physical, int(text)) if text.isdigit() else physical


def free_bytes() -> int:
    """Memory that nobody uses, or that the system gives back when it is asked for."""
    lines = dict(line.split(":", 1) for line in _text(Path("/proc/meminfo")).splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else machine_bytes()
    return min(available, machine_bytes())


def _gpu_bytes() -> int | None:
    """Of the smallest GPU, as NVIDIA's tool says; None where it does not."""
    try:
        sizes = [int(line) for line in _told_of_gpus().split() if line.isdigit()]
    except (OSError, subprocess.SubprocessError):
        return None
    return min(sizes) * 2**20 if sizes else None


@cache
def _told_of_gpus() -> str:
    """What the tool answers, which takes it a second: the same for the life of a process. A failure is not kept."""
    return subprocess.run(QUERY, capture_output=True, text=True, timeout=QUERY_S, check=True).stdout


def _free_in(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_frsize * found.f_bavail


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # no Linux
        return ""
