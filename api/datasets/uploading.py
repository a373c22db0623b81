"""A multipart body onto disk while it comes in: no file is ever held in memory or in the system's temporary folder.

The upload route feeds it; names that a caller gives files become plain names in one new folder.
"""

import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from xpo_ray.api.problems import Refusal

MAX_FILES = 64
MAX_FIELD_BYTES = 1024
LOOK_AT_DISK_EVERY = 16 * 2**20


@dataclass
class Upload:
    """What came in: the fields, and the files in their order."""

    folder: Path
    fields: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)
    """Of each file, in the same order."""

    @property
    def content(self) -> bytes:
        """What tells this upload from others, however the body was cut into parts."""
        files = [(path.name, sha256) for path, sha256 in zip(self.files, self.sha256, strict=True)]
        return json.dumps([self.fields, files], sort_keys=True).encode()


async def receive(content_type: str, body: AsyncIterator[bytes], folder: Path, room: Callable[[], None]) -> Upload:
    """Write the files of a multipart body into a folder. `room` is asked now and then and raises where the disk is full.

    Raises Refusal for what is no such body; the caller removes the folder.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refusal(
            415, "not_multipart", f"expected multipart/form-data with name and file, got {content_type!r:.100}"
        )
    writer = _Writer(Upload(folder))
    parser = MultipartParser(options[b"boundary"], writer.callbacks())  # type: ignore[arg-type]
    since_look = 0
    try:
        async for chunk in body:
            since_look += len(chunk)
            if since_look > LOOK_AT_DISK_EVERY:
                room()
                since_look = 0
            await run_in_threadpool(parser.write, chunk)
        if not writer.whole:
            raise Refusal(
                400, "upload_cut", "the body ends before its last boundary: the upload was cut; send it again"
            )
    except ClientDisconnect as error:
        raise Refusal(400, "upload_cut", "the connection ended before the body; send it again") from error
    except MultipartParseError as error:
        raise Refusal(400, "not_multipart", f"the body is not multipart/form-data: {error}") from error
    finally:
        writer.close()
    return writer.upload


class _Writer:
    """The parser's callbacks: each part goes to a file, or to a field."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.whole = False
        self._headers: dict[bytes, bytes] = {}
        self._header = [b"", b""]
        self._field: str | None = None
        self._value = b""
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._collect(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._collect(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": lambda data, start, end: self._write(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        self._headers, self._header, self._field, self._value = {}, [b"", b""], None, b""

    def _collect(self, place: int, data: bytes) -> None:
        self._header[place] += data
        if len(self._header[place]) > MAX_FIELD_BYTES:
            raise Refusal(400, "not_multipart", f"a header of a part has more than {MAX_FIELD_BYTES} bytes")

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" not in options:
            self._field = name
            return
        if name not in ("file", "files"):
            raise Refusal(
                422, "upload_invalid", f"a file in the field {name!r:.60}; files go into `file`", field="file"
            )
        if len(self.upload.files) >= MAX_FILES:
            raise Refusal(422, "upload_invalid", f"more than {MAX_FILES} files; join some", field="file")
        path = self.upload.folder / plain_name(options[b"filename"].decode(errors="replace"))
        if path in self.upload.files:
            raise Refusal(422, "upload_invalid", f"two files are called {path.name}; rename one", field="file")
        self._file, self._hash = path.open("xb"), hashlib.sha256()
        self.upload.files.append(path)

    def _write(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            self._hash.update(data)
            return
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise Refusal(422, "upload_invalid", f"the field {self._field!r:.60} has more than {MAX_FIELD_BYTES} bytes")

    def _end(self) -> None:
        if self._file is None:
            self.upload.fields[self._field or ""] = self._value.decode(errors="replace")
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        self.upload.sha256.append(self._hash.hexdigest())

    def _finish(self) -> None:
        self.whole = True


def plain_name(given: str) -> str:
    """A file name of letters, digits, `.`, `_` and `-`, from whatever a caller called its file."""
    last = re.split(r"[/\\]", given)[-1]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last).lstrip(".")
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[:80]}{dot}{suffix[:12]}" if stem else name[:80] or "file"
