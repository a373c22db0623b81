"""A library that is missing is found before anything starts, without importing one."""

import subprocess
import sys
from pathlib import Path

import pytest

from xpo_ray.errors import SpecError
from xpo_ray.exports.checks import check_exports
from xpo_ray.spec.exports import MlflowExport, TensorBoardExport, WandbExport


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for packages with nothing in it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("wandb", "mlflow", "tensorboard"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def package(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('was imported')\n")


def test_missing_libraries_are_named_with_the_extra_to_install(empty_path: Path) -> None:
    package(empty_path, "tensorboard")
    exports = (TensorBoardExport(kind="tensorboard"), WandbExport(kind="wandb"), MlflowExport(kind="mlflow"))
    with pytest.raises(SpecError, match=r"wandb, mlflow cannot be imported; pip install 'xpo-ray\[wandb,mlflow\]'"):
        check_exports(exports)


def test_a_library_is_found_without_being_imported(empty_path: Path) -> None:
    package(empty_path, "wandb")
    check_exports([WandbExport(kind="wandb")])


def test_a_folder_that_the_library_left_behind_is_not_the_library(empty_path: Path) -> None:
    (empty_path / "wandb").mkdir()
    with pytest.raises(SpecError, match="wandb cannot be imported"):
        check_exports([WandbExport(kind="wandb")])


def test_no_library_is_loaded_by_the_reporter_or_the_spec() -> None:
    script = (
        "import sys, xpo_ray.exports.reporter, xpo_ray.spec;"
        "print(*[m for m in ('tensorboard', 'wandb', 'mlflow', 'trackio', 'torch') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == []
