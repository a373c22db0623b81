"""A folder that lies in memory, for tensors that other processes or libraries read from files alone. Engines' hand-overs use
it; it is gone with the block, and what a killed process left is gone with the next one.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "xpo-ray-hand-over-"


@contextmanager
def memory_folder(wanted_bytes: int) -> Iterator[Path]:
    """A temporary folder in shared memory, or on the disk where there is none with twice the room."""
    place = Path(tempfile.gettempdir())
    _sweep(place)
    if os.access(SHARED_MEMORY, os.W_OK):
        _sweep(SHARED_MEMORY)
        place = SHARED_MEMORY if shutil.disk_usage(SHARED_MEMORY).free > 2 * wanted_bytes else place
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as made, _locked(Path(made)):
        yield Path(made)


def _sweep(place: Path) -> None:
    """Remove the folders that no living process holds, other users' left alone; one without files is being made."""
    for left in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if any(left.iterdir()):
                with _locked(left):
                    shutil.rmtree(left)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when this process dies. Raises BlockingIOError where another process has it."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)
