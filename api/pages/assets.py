"""The pages' files, read once into memory, under a version that changes with any of them.

The routes answer with these. Every file of the folder is listed here by its name; no path of a request reaches the disk.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
VERSION_MARK = b"{{version}}"


@dataclass(frozen=True)
class Assets:
    """Scripts and styles by name, and the one document that loads them."""

    version: str
    document: bytes
    files: dict[str, bytes]

    def media_type(self, name: str) -> str:
        return TYPES[name[name.rindex(".") :]]


@cache
def assets() -> Assets:
    """All files, and a version made of their contents: a script imports its neighbours under the version it came with."""
    found = dict(sorted(_walk(files("xpo_ray.api.pages") / "static", "")))
    digest = hashlib.sha256(b"\0".join(part for name, text in found.items() for part in (name.encode(), text)))
    version = digest.hexdigest()[:12]
    document = found.pop("page.html").replace(VERSION_MARK, version.encode())
    return Assets(version, document, found)


def _walk(folder: Traversable, before: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        name = f"{before}{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, f"{name}/")
        elif any(name.endswith(ending) for ending in TYPES):
            yield name, entry.read_bytes()
