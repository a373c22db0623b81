"""Which files and hub repositories of the operator a caller may name. Datasets, models and specs are checked against it."""

from fnmatch import fnmatchcase
from os.path import realpath
from pathlib import Path

from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings


def below_roots(settings: Settings, path: str, field: str) -> Path:
    """The path, resolved, below one of settings.roots. Raises Refusal, with the same words whether it exists or not."""
    if "\0" not in path and path.startswith("/") and ".." not in path.split("/"):
        resolved = realpath(path)
        if any(_within(resolved, realpath(root)) for root in settings.roots):
            return Path(resolved)
    raise Refusal(
        422,
        "path_not_allowed",
        f"{field} {path!r:.200} is not below a folder that the operator has opened to submitters; "
        "name an absolute path below one, or upload the files",
        field=field,
    )


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
