"""A file on its way: written beside its place, gone on with by Range after a break, checked, then renamed.

A folder never shows half a file under its name. The drivers send the requests; what is decided stands here.
"""

import hashlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xpo_ray.client.faults import DownloadDamaged
from xpo_ray.client.talk import TRIES, Broken, Reply, Request, Wait, accepted, part, pause_of, unreachable
from xpo_ray.errors import UserError
from xpo_ray.wire.artifacts import FileView


class Download:
    """One file of a checkpoint, and the place it goes to."""

    def __init__(self, run_id: str, checkpoint_id: str, file: FileView, folder: Path) -> None:
        self.file = file
        self.target = inside(folder, file.name)
        self.part = self.target.with_name(f"{self.target.name}.{file.sha256[:12]}.part")
        self._path = f"/v1/runs/{part(run_id)}/checkpoints/{part(checkpoint_id)}/files/{part(file.id)}"

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def done(self) -> bool:
        """The file is in its place, whole."""
        return self.target.is_file() and self.target.stat().st_size == self.file.size and self._sound(self.target)

    def request(self) -> Request:
        """Asks for what is still missing."""
        headers = {"Accept-Encoding": "identity"}
        if have := self.have:
            headers |= {"Range": f"bytes={have}-", "If-Range": f'"{self.file.sha256}"'}
        return Request("GET", self._path, headers=headers)

    def part_file(self, status: int) -> IO[bytes]:
        """The part, open; an answer with the whole file begins anew."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        return self.part.open("ab" if status == 206 else "wb")

    def finish(self) -> None:
        """Check and rename. Raises DownloadDamaged and throws the part away where it is not what was announced."""
        if not self._sound(self.part):
            self.part.unlink()
            raise DownloadDamaged(f"{self.target}: what came does not have the announced sha256; download it again")
        with self.part.open("rb") as file:
            os.fsync(file.fileno())
        self.part.replace(self.target)

    def _sound(self, path: Path) -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.file.sha256


@dataclass(frozen=True)
class Fetch:
    """Send the request and write what comes into the download's part."""

    request: Request
    download: Download


Fetching = Generator[Fetch | Wait, Reply | Broken | None, None]


def fetch(download: Download) -> Fetching:
    """Bring a file to its place, over connections that may drop. Tries that bring bytes do not count."""
    tries = 0
    if download.done:
        return
    while download.have < download.file.size or not download.part.exists():
        before = download.have
        request = download.request()
        reply = yield Fetch(request, download)
        tries = 1 if download.have > before else tries + 1
        assert reply is not None
        if isinstance(reply, Reply) and reply.status < 400 and download.have >= download.file.size:
            break
        pause = pause_of(reply, tries) if tries < TRIES else None
        if isinstance(reply, Reply) and pause is None:
            accepted(reply)
        if pause is None:
            raise unreachable(request, reply if isinstance(reply, Broken) else Broken("the file ended too early"))
        yield Wait(pause)
    download.finish()


def inside(folder: Path, name: str) -> Path:
    """The place of a file that the service names; never one outside the folder. Raises UserError."""
    target = (folder / name).resolve()
    if not name or "\0" in name or not target.is_relative_to(folder.resolve()) or target == folder.resolve():
        raise UserError(f"the service names a file {name!r}, which would lie outside {folder}: nothing is written")
    return target
