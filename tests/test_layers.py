"""Dependencies point down: xpo_ray ← xpo_ray.actors ← xpo_ray.api, proved on every import statement of the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = {"xpo_ray": ROOT / "xpo_ray", "xpo_ray.actors": ROOT / "actors", "xpo_ray.api": ROOT / "api"}
HEAVY = ("torch", "transformers", "datasets", "ray", "peft", "fastapi", "pandas")


def sources(layer: str) -> Iterator[tuple[str, Path]]:
    """(module name, file) of a layer; the links in xpo_ray to the other layers are not followed."""
    folder = LAYERS[layer]
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if layer == "xpo_ray" and parts[0] in ("actors", "api"):
            continue
        yield ".".join([layer, *(p for p in parts if p != "__init__")]), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(module, line) of every import statement of a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            assert node.module is not None
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def offences(layer: str, forbidden: tuple[str, ...], *, but: tuple[str, ...] = ()) -> list[str]:
    """Imports of forbidden packages in a layer, but for those in the named rooms."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for name, path in sources(layer)
        if not any(within(name, room) for room in but)
        for module, line in imports(path)
        if any(within(module, package) for package in forbidden)
    ]


def test_the_walk_sees_every_layer_and_imports_within_functions() -> None:
    modules = {layer: {name for name, _ in sources(layer)} for layer in LAYERS}
    assert {"xpo_ray.training", "xpo_ray.spec.run", "xpo_ray.cli.app"} <= modules["xpo_ray"]
    assert "xpo_ray.actors.driver" in modules["xpo_ray.actors"]
    assert "xpo_ray.api" in modules["xpo_ray.api"]
    within_functions = {module for module, _ in imports(ROOT / "xpo_ray" / "judges" / "__init__.py")}
    assert {"xpo_ray.judges.python", "xpo_ray.judges.reward_model"} <= within_functions


def test_the_core_imports_neither_ray_nor_fastapi_nor_the_layers_above() -> None:
    above = ("ray", "fastapi", "starlette", "xpo_ray.actors", "xpo_ray.api")
    assert offences("xpo_ray", above, but=("xpo_ray.cli",)) == []


def test_actors_do_not_import_the_http_layer() -> None:
    assert offences("xpo_ray.actors", ("xpo_ray.api", "fastapi", "starlette")) == []


def test_the_http_layer_imports_neither_torch_nor_what_drives_ray() -> None:
    assert offences("xpo_ray.api", ("torch", "transformers", "xpo_ray.actors")) == []


def test_nothing_imports_the_command_line_but_itself() -> None:
    for layer in LAYERS:
        assert offences(layer, ("xpo_ray.cli",), but=("xpo_ray.cli",)) == []


def test_decisions_schedules_and_seeds_stay_free_of_io() -> None:
    pure = ("xpo_ray.decisions", "xpo_ray.schedule", "xpo_ray.seeds", "xpo_ray.algorithms", "xpo_ray.preferences")
    files = dict(sources("xpo_ray"))
    forbidden = ("os", "pathlib", "time", "random", "torch", "subprocess", "xpo_ray.storage")
    for name in pure:
        assert not [m for m, _ in imports(files[name]) if any(within(m, f) for f in forbidden)], name


@pytest.mark.parametrize("module", ["xpo_ray.spec", "xpo_ray.cli", "xpo_ray.errors", "xpo_ray.plan"])
def test_what_answers_at_once_loads_nothing_heavy(module: str) -> None:
    script = f"import sys, {module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    assert ended.stdout.split() == []


def test_names_that_say_nothing_are_not_used_for_files() -> None:
    empty = {"utils", "common", "helpers", "helper", "misc", "manager"}
    assert not [name for layer in LAYERS for name, _ in sources(layer) if empty & set(name.split("."))]
