"""A small disk of its own for a test: a tmpfs, which can be filled to the last byte and emptied again."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BLOCK = 4096


class SmallDisk:
    """A file system at `folder` that holds a few MiB."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    @property
    def free(self) -> int:
        """Bytes that are free."""
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def fill(self, leaving: int = 0) -> None:
        """Take all room there is, but so many bytes."""
        with self._filler.open("ab", buffering=0) as file:
            for block in (256 * BLOCK, BLOCK):
                while self.free - block >= leaving and self._took(file.fileno(), block):
                    pass

    def empty(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink(missing_ok=True)

    @staticmethod
    def _took(file: int, block: int) -> bool:
        try:
            return os.write(file, b"\0" * block) > 0
        except OSError:
            return False


@contextmanager
def small_disk(folder: Path, mib: float) -> Iterator[SmallDisk]:
    """Mount one; the test is skipped where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    size = f"size={int(mib * 1024)}k,mode=0700"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
