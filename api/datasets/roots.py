"""Which files and hub repositories of the operator a caller may name. Datasets, models and specs are checked against it."""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from os.path import realpath
from pathlib import Path

from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings


def below_roots(roots: Sequence[str], path: str, field: str) -> Path:
    """The path, resolved, below one of these folders. Raises Refusal, with the same words whether it exists or not."""
    if "\0" not in path and path.startswith("/") and ".." not in path.split("/"):
        resolved = realpath(path)
        if any(_within(resolved, realpath(root)) for root in roots):
            return Path(resolved)
    raise Refusal(
        422,
        "path_not_allowed",
        f"{field} {path!r:.200} is not below a folder that the operator has opened to submitters; "
        "name an absolute path below one, or upload the files",
        field=field,
    )


def links_below(roots: Sequence[str], folder: Path, field: str) -> None:
    """Raises Refusal where a link in a folder below the roots leads out of them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                below_roots(roots, entry.path, field)


def _within(resolved: str, root: str) -> bool:
    return resolved == root or resolved.startswith(root.rstrip("/") + "/")


def allowed_repository(settings: Settings, name: str, field: str) -> str:
    """The name of a hub repository that is on settings.repositories. Raises Refusal."""
    if any(fnmatchcase(name, pattern) for pattern in settings.repositories) and ".." not in name:
        return name
    raise Refusal(
        422,
        "repository_not_allowed",
        f"{field} {name!r:.200}: the operator does not allow this hub repository; ask for it to be put on the list",
        field=field,
    )
