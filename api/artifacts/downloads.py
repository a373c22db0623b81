"""Answers that carry a file: whole, or the part that a Range asks for; never shown by a browser, only saved.

The file is given open, so that what was checked is what is sent.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from xpo_ray.api.problems import Refusal

CHUNK = 2**20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")


class Sending(StreamingResponse):
    """Closes what it sends from at its end, also where the caller went away in the middle."""

    def __init__(
        self, content: Iterator[bytes], close: Callable[[], None], status: int, headers: dict[str, str], kind: str
    ) -> None:
        super().__init__(content, status, headers, media_type=kind)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def download(file: BinaryIO, name: str, size: int, sha256: str, request_headers: Mapping[str, str]) -> Response:
    """The file, or the part of it that is asked for; 304 for a caller that has it."""
    tag = f'"{sha256}"'
    if tag in [t.strip() for t in request_headers.get("if-none-match", "").split(",")]:
        file.close()
        return Response(status_code=304, headers={"ETag": tag})
    part = None
    if request_headers.get("if-range", tag) == tag:
        part = _part(file, request_headers.get("range"), size)
    start, stop = part or (0, size)
    headers = {
        **attachment(name),
        "ETag": tag,
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 206 if part else 200
    return Sending(pieces(file, start, stop), file.close, status, headers, "application/octet-stream")


def attachment(name: str) -> dict[str, str]:
    """Headers that make a browser save and never interpret."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def pieces(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Bytes start to stop of an open file, which is closed at the end. Raises OSError where it became shorter."""
    with file:
        file.seek(start)
        while start < stop:
            piece = file.read(min(CHUNK, stop - start))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            start += len(piece)
            yield piece


def _part(file: BinaryIO, asked: str | None, size: int) -> tuple[int, int] | None:
    """Start and stop of the part; None for the whole. A form that is not understood means the whole (RFC 9110 §14.2)."""
    match = _RANGE.match(asked or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if first and last and int(last) < int(first):
        return None
    if start >= size:
        file.close()
        detail = f"Range {asked}: the file has {size} bytes"
        raise Refusal(416, "range_not_satisfiable", detail, headers={"Content-Range": f"bytes */{size}"})
    return start, stop
