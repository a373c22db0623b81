"""One tar archive of a checkpoint's model, made while it is sent: nothing is held in memory and nothing written to disk.

The same checkpoint gives the same bytes, and the length is known before the first of them.
"""

import tarfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.api.artifacts.downloads import pieces
from xpo_ray.api.artifacts.opening import open_below, open_committed
from xpo_ray.storage import Checkpoint

BLOCK = tarfile.BLOCKSIZE
MODEL = "model/"


@dataclass(frozen=True)
class Member:
    """One file of the archive."""

    path: str
    """Below the run's folder."""
    header: bytes
    size: int

    @property
    def padding(self) -> int:
        return -self.size % BLOCK


@dataclass(frozen=True)
class Archive:
    """A model as a tar file."""

    root: Path
    members: tuple[Member, ...]

    @property
    def length(self) -> int:
        """Bytes of the whole archive."""
        return sum(len(m.header) + m.size + m.padding for m in self.members) + 2 * BLOCK

    def stream(self) -> Generator[bytes, None, None]:
        """The archive, piece by piece. Raises OSError where a file vanished: the length is then not reached."""
        for member in self.members:
            yield member.header
            yield from pieces(open_below(self.root, member.path), 0, member.size)
            yield bytes(member.padding)
        yield bytes(2 * BLOCK)


def archive_name(run_name: str, checkpoint: Checkpoint) -> str:
    """<run>-iteration-<t>, and the step where the checkpoint is not at a border."""
    if checkpoint.step == 0:
        return f"{run_name}-iteration-{checkpoint.iteration}"
    return f"{run_name}-iteration-{checkpoint.iteration + 1}-step-{checkpoint.step}"


def model_archive(root: Path, checkpoint: Checkpoint, folder: str, made: float) -> Archive:
    """The model of a checkpoint, each file checked first; in the archive they stand in `folder`. Raises Refusal."""
    members = []
    for name, (size, sha256) in sorted(checkpoint.files.items()):
        if not name.startswith(MODEL):
            continue
        path = f"{checkpoint.path}/{name}"
        open_committed(root, path, size, sha256, f"{name} of this checkpoint").close()
        members.append(Member(path, _header(f"{folder}/{name.removeprefix(MODEL)}", size, made), size))
    return Archive(root, tuple(members))


def _header(name: str, size: int, made: float) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(made), 0o644
    return info.tobuf(tarfile.GNU_FORMAT)
