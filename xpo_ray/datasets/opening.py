"""A text file of a dataset as bytes or text: decompressed while it is read, in the encoding that its mark says, else UTF-8.

The readers of JSON and CSV open files here. What is no text at all is refused by what it is.
"""

import bz2
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from xpo_ray.errors import DatasetError

if TYPE_CHECKING:
    Stream = io.BufferedReader[Any]
else:
    Stream = io.BufferedReader

HEAD_BYTES = 4096
MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
NOT_TEXT = (
    (b"version https://git-lfs.github.com/", "a pointer of git LFS and not the file; fetch it with `git lfs pull`"),
    (b"PAR1", "Parquet by its content; call it .parquet"),
    (b"ARROW1", "Arrow by its content; call it .arrow"),
    (b"PK\x03\x04", "a zip archive or an Excel file by its content; unpack it, or save the sheet as CSV in UTF-8"),
    (b"\x80\x04\x95", "a Python pickle, which is never opened; write the rows as jsonl or parquet"),
    (b"<!doctype html", "a web page and not the file behind it; download the raw file"),
    (b"<html", "a web page and not the file behind it; download the raw file"),
)


@contextmanager
def opened_bytes(file: Path) -> Iterator[tuple[Stream, str]]:
    """The decompressed bytes of a text file from their beginning, and their encoding. Raises DatasetError."""
    with told(file), file.open("rb") as raw, _unpacked(raw) as stream:
        yield stream, _encoding(file, stream.peek(HEAD_BYTES)[:HEAD_BYTES])


@contextmanager
def opened_text(file: Path) -> Iterator[TextIO]:
    """The text of a file, its line ends as they are. Raises DatasetError."""
    with opened_bytes(file) as (stream, encoding), io.TextIOWrapper(stream, encoding=encoding, newline="") as text:
        yield text


def text_lines(file: Path) -> Iterator[str]:
    """The lines of a file, cut at \\n alone. Raises DatasetError."""
    with opened_bytes(file) as (stream, encoding):
        if encoding == "utf-8-sig" and stream.peek(3)[:3] == MARKS[0][0]:
            stream.read(3)
        if encoding != "utf-8-sig":
            with io.TextIOWrapper(stream, encoding=encoding, newline="\n") as text:
                yield from text
            return
        for number, line in enumerate(stream, start=1):
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise DatasetError(f"{file}: {not_utf8(number, error)}") from error


def not_utf8(line: int, error: UnicodeDecodeError) -> str:
    """What to do about a line that is not UTF-8."""
    return (
        f"line {line} is not UTF-8: {error}; write the file as UTF-8 (from Windows-1252: "
        "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW)"
    )


def not_text(head: bytes) -> str | None:
    """What a file is, by its first bytes, where that is no text of a dataset, and what to do about it."""
    beginning = head[:64].lstrip().lower()
    return next((what for mark, what in NOT_TEXT if beginning.startswith(mark.lower())), None)


@contextmanager
def told(file: Path) -> Iterator[None]:
    """Say which file it was that could not be read, and in which line where its text ends."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        for _ in text_lines(file):  # refuses the line
            pass
        raise DatasetError(f"{file}: not {error.encoding}: {error}; write the file as UTF-8") from error
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise DatasetError(f"{file}: cannot be read: {error}; is it whole?") from error


@contextmanager
def _unpacked(raw: Stream) -> Iterator[Stream]:
    """By what the file holds, whatever it is called."""
    head = raw.peek(4)[:4]
    if head.startswith(b"\x1f\x8b"):
        inner: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    elif head.startswith(b"BZh"):
        inner = cast(BinaryIO, bz2.BZ2File(raw))
    elif head == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        inner = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    else:
        yield raw
        return
    with io.BufferedReader(cast(io.RawIOBase, inner), 1 << 16) as stream:
        yield stream


def _encoding(file: Path, head: bytes) -> str:
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    if (what := not_text(head)) is not None:
        raise DatasetError(f"{file}: is {what}")
    if b"\0" in head:
        raise DatasetError(
            f"{file}: holds zero bytes: it is no text, or UTF-16 without a mark at its beginning; write it as UTF-8 "
            "(iconv -f UTF-16LE -t UTF-8 OLD > NEW)"
        )
    return "utf-8-sig"
