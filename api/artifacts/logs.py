"""Logs of an attempt, some bytes at a time. They lie in the run's folder and outlive Ray."""

import os
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.api.artifacts.opening import open_below

MAX_BYTES = 2**20


@dataclass(frozen=True)
class LogPart:
    """Bytes of a log from an offset; `next` is where the next part begins."""

    data: bytes
    next: int
    size: int


def log_part(root: Path, attempt: int, after: int, limit: int) -> LogPart:
    """At most `limit` bytes behind an offset; ends between two characters. Empty where nothing was written yet."""
    try:
        file = open_below(root, f"attempts/{attempt:04d}/driver.log")
    except OSError:
        return LogPart(b"", after, 0)
    with file:
        size = os.fstat(file.fileno()).st_size
        file.seek(min(after, size))
        data = file.read(min(limit, MAX_BYTES))
    whole = data[: len(data) - _cut_character(data)] or data
    return LogPart(whole, min(after, size) + len(whole), size)


def _cut_character(data: bytes) -> int:
    """Bytes at the end that begin a UTF-8 character and do not finish it."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return 0
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
    return 0
