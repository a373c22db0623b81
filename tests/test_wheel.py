"""The wheel as a user installs it: all three layers in it, importable from any folder under their one name each."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("xpo_ray", "actors", "api")


def ran(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command that has to end well, and finds only what is installed."""
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [*map(str, command)]
    ended = subprocess.run(words, cwd=cwd, env=plain, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, so that no build folder appears among them."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, tree / layer, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    ran(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder / "dist", tree)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment that holds the wheel, and sees the other packages of this one."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check")
    ran(*pip, "--no-deps", "--no-index", "--ignore-installed", wheel)
    return python


def sources(folder: Path, prefix: str) -> set[str]:
    return {f"{prefix}/{p.relative_to(folder)}" for p in folder.rglob("*.py") if "__pycache__" not in p.parts}


def test_the_wheel_holds_every_module_of_all_layers_and_the_mark_of_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "xpo_ray/py.typed" in names
    assert {f"xpo_ray/demo/questions/{name}.jsonl" for name in ("train", "test")} <= names
    assert {f"xpo_ray/report/template/report.{kind}" for kind in ("html", "css", "js")} <= names
    for prefix, folder in (("xpo_ray/actors", "actors"), ("xpo_ray/api", "api"), ("xpo_ray", "xpo_ray")):
        expected = sources(ROOT / folder, prefix)
        assert expected
        assert expected <= names


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"xpo_ray"}


def test_all_layers_are_imported_from_another_folder(installed: Path, tmp_path: Path) -> None:
    script = (
        "import xpo_ray, xpo_ray.actors.driver, xpo_ray.api;"
        "print(xpo_ray.__file__, xpo_ray.actors.__file__, xpo_ray.api.__file__)"
    )
    places = ran(installed, "-c", script, cwd=tmp_path).stdout.split()
    assert len(places) == 3
    assert all(Path(place).is_relative_to(installed.parents[1]) for place in places)


def test_the_command_is_installed_and_answers(installed: Path, tmp_path: Path) -> None:
    shown = ran(installed.with_name("xpo-ray"), "--help", cwd=tmp_path).stdout
    assert "Iterative online preference optimisation" in shown


@pytest.mark.parametrize("layer", ["actors", "api"])
def test_a_layer_has_one_name_and_refuses_the_one_of_its_folder(layer: str) -> None:
    command = [sys.executable, "-c", f"import {layer}"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert f"ImportError: import xpo_ray.{layer}, not {layer}" in ended.stderr
