"""Import strings: from `module:function` to a file and a function.

`locate` finds the file without running any of it; run records and validation call it anywhere. `load` runs the user's
module and is called only inside the process that belongs to the user's code. Neither decides who may name a plug-in.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, TracebackType

from xpo_ray.errors import JudgeError

TRACEBACK_CHARACTERS = 2000


def locate(import_string: str, folder: Path) -> Path:
    """The file of the module: beside the spec file (`folder`), then in the working folder, then as installed.

    Follows Python's own rule, by which the first place that holds the top-level package settles where the rest is.
    """
    module = import_string.partition(":")[0]
    importlib.invalidate_caches()
    found = _found(module, [str(folder.resolve()), str(Path.cwd()), *sys.path])
    if found is None or not found.has_location or found.origin is None:
        raise JudgeError(_not_found(import_string, module, folder))
    return Path(found.origin)


def _found(module: str, places: Iterable[str]) -> ModuleSpec | None:
    top, *rest = module.split(".")
    found = PathFinder.find_spec(top, list(places)) or _found_by_hooks(top)
    for part in rest:  # by its last name alone: a dotted one would need the packages above it to be imported
        if found is None:
            return None
        found = PathFinder.find_spec(part, list(found.submodule_search_locations or ()))
    return found


def _found_by_hooks(top: str) -> ModuleSpec | None:
    """Editable installs may answer through an import hook and stand on no path."""
    if top == "__main__":  # whatever was started here; a judge's process will have another
        return None
    try:
        return importlib.util.find_spec(top)
    except ValueError:  # a module that came from no place
        return None


def _not_found(import_string: str, module: str, folder: Path) -> str:
    near = difflib.get_close_matches(module, [file.stem for file in folder.glob("*.py")], n=1)
    remedy = f"did you mean {near[0]}?" if near else "put the file beside the spec file or install its package"
    return (
        f"judge.function {import_string}: there is no module {module} in {folder.resolve()}, in {Path.cwd()}, "
        f"or among the installed ones; {remedy}"
    )


def load(import_string: str, folder: Path) -> tuple[Path, Callable[..., object]]:
    """Import the module and take its function; for a process that belongs to the user's code. Raises JudgeError."""
    file = locate(import_string, folder)
    sys.path[:0] = [str(folder.resolve()), str(Path.cwd())]
    return file, _function(import_string, _imported(import_string, file), file)


def _imported(import_string: str, file: Path) -> ModuleType:
    name = import_string.partition(":")[0]
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the user's module
        raise JudgeError(
            f"judge.function {import_string}: importing {file} failed: {what_was_raised(error)}"
        ) from error
    loaded = getattr(module, "__file__", None)
    if loaded is None or not file.samefile(loaded):
        raise JudgeError(
            f"judge.function {import_string}: {file} has the name of a module that Python has loaded already "
            f"({loaded or 'built in'}); rename the file"
        )
    return module


def _function(import_string: str, module: ModuleType, file: Path) -> Callable[..., object]:
    name = import_string.partition(":")[2]
    function: object = getattr(module, name, None)
    if function is None:
        public = [attribute for attribute in vars(module) if not attribute.startswith("_")]
        near = difflib.get_close_matches(name, public, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"define `def {name}(prompt, responses)` there"
        raise JudgeError(f"judge.function {import_string}: {file} has no {name}; {remedy}")
    if not callable(function):
        raise JudgeError(
            f"judge.function {import_string}: {name} in {file} is a {type(function).__name__}, no function"
        )
    _refuse_other_parameters(import_string, function, file)
    return function


def _refuse_other_parameters(import_string: str, function: Callable[..., object], file: Path) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C; the first call will tell
        return
    try:
        signature.bind([], [])
    except TypeError as error:
        raise JudgeError(
            f"judge.function {import_string}: the function in {file} takes {signature}; "
            f"it is called with two arguments, (prompt, responses)"
        ) from error


def what_was_raised(error: BaseException) -> str:
    """The last line of the traceback, then the traceback itself from the user's code on; a long one keeps its end."""
    last = traceback.format_exception_only(error)[-1].strip()
    whole = "".join(traceback.format_exception(type(error), error, _without_ours(error.__traceback__))).strip()
    if len(whole) > TRACEBACK_CHARACTERS:
        whole = f"...{whole[-TRACEBACK_CHARACTERS:]}"
    return f"{last[:TRACEBACK_CHARACTERS]}\n{whole}"


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """Drop the frames of this package, and of the import system, that lead to the user's code."""
    ours = (str(Path(__file__).parent), "<frozen importlib")
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith((*ours, importlib.__file__)):
        frames = frames.tb_next
    return frames
