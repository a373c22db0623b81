"""Whether the libraries that `exports` names are there, looked up without importing them. Validation and the driver ask."""

from collections.abc import Sequence
from importlib.util import find_spec

from xpo_ray.errors import SpecError
from xpo_ray.spec.exports import ExportSpec


def check_exports(exports: Sequence[ExportSpec]) -> None:
    """Raises SpecError where a library is not installed."""
    missing = [export.kind for export in exports if not _installed(export.kind)]
    if missing:
        raise SpecError(
            f"exports: {', '.join(missing)} cannot be imported; pip install 'xpo-ray[{','.join(missing)}]', "
            "or take it out of exports"
        )


def _installed(library: str) -> bool:
    """A bare folder of that name is no library; wandb and mlflow leave such folders where they were run."""
    found = find_spec(library)
    return found is not None and found.origin is not None
