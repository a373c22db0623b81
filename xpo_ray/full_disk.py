"""A disk without room, told as one error whoever found it: Python, Arrow, safetensors and Ray each have their own.

Storage writes through `told`; an attempt's end and the HTTP layer ask `is_full`. Nothing here frees or waits for space.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xpo_ray.errors import DiskFull

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
WORDS = ("No space left on device", "Disk quota exceeded", "OutOfDiskError")
"""Of libraries that keep the system's words alone."""


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """What fails in here for lack of room raises DiskFull; everything else stays what it is."""
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:  # safetensors, Arrow and torch name a full disk each in their own way
        if is_full(error):
            raise DiskFull(
                f"the disk of {folder} is full: {error}; what was committed stays: make room, and the run goes on from there"
            ) from error
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a disk or a quota has no room left."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, DiskFull) or _says_so(found):
            return True
        found = found.__cause__ or found.__context__
    return False


def _says_so(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return type(error).__name__ in WORDS or any(words in str(error) for words in WORDS)
