"""A folder that lies in memory, for tensors that other processes or libraries read from files alone. Engines' hand-overs use
it; nothing in it outlives the block.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def memory_folder(wanted_bytes: int) -> Iterator[Path]:
    """A temporary folder in shared memory, or on the disk where there is none with twice the room."""
    usable = os.access(SHARED_MEMORY, os.W_OK) and shutil.disk_usage(SHARED_MEMORY).free > 2 * wanted_bytes
    with tempfile.TemporaryDirectory(prefix="xpo-ray-", dir=SHARED_MEMORY if usable else None) as made:
        yield Path(made)
