"""Opening files of a run's folder for callers: one part of the path after the other, and no symbolic link is followed.

Every other module of this room opens bytes that go out through here. Raises Refusal where a file is gone or altered.
"""

import hashlib
import os
import stat
from collections import OrderedDict
from io import BufferedReader
from pathlib import Path
from threading import Lock

from xpo_ray.api.problems import Refusal

MAX_REMEMBERED = 4096


class Verified:
    """Files whose sha256 was checked, by what the file system says of them; a file that changes is checked anew."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, int, int], str] = OrderedDict()
        self._lock = Lock()

    def matches(self, file: BufferedReader, sha256: str) -> bool:
        """Whether the open file has this hash; it is read once."""
        status = os.fstat(file.fileno())
        key = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            self._remember(key, known)
        return known == sha256

    def _remember(self, key: tuple[int, int, int, int], sha256: str) -> None:
        with self._lock:
            self._known[key] = sha256
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)


VERIFIED = Verified()


def open_below(root: Path, relative: str) -> BufferedReader:
    """A regular file below a folder. Raises OSError; also where a part of the path is a link, `..` or no folder."""
    *folders, name = Path(relative).parts
    if any(part in ("..", "/") for part in (*folders, name)):
        raise FileNotFoundError(relative)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    return _regular(file, relative)


def open_committed(root: Path, relative: str, size: int, sha256: str, what: str) -> BufferedReader:
    """A committed file whose bytes are those that were committed; `what` names it in the refusal."""
    try:
        file = open_below(root, relative)
    except OSError as error:
        raise gone(what) from error
    if os.fstat(file.fileno()).st_size != size or not VERIFIED.matches(file, sha256):
        file.close()
        raise Refusal(
            410, "artifact_corrupt", f"{what} is no longer what was published: its bytes were altered; take another"
        )
    return file


def gone(what: str) -> Refusal:
    """For files that were there and are not any more."""
    return Refusal(410, "artifact_gone", f"{what} is no longer there: its files were freed or removed")


def _regular(descriptor: int, relative: str) -> BufferedReader:
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise FileNotFoundError(relative)
    return file
