"""The file behind a prompt table: Arrow IPC, written batch by batch and mapped into memory, so that no row lies in the heap.

Tokenising writes through a PromptWriter; whoever reads gets a table whose pages the kernel may drop at any time. The file of a
writer has no name once it is mapped, so that nothing is left of it when its process ends, however it ends.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa

from xpo_ray.errors import OutputError
from xpo_ray.shards import PROMPTS

BATCH_BYTES = 16 << 20
BATCH_ROWS = 32_768
"""A batch is written when it holds as many bytes or rows. Few large ones: rows that are taken together lie in most of them."""


class PromptWriter:
    """Chunks of the PROMPTS schema on their way to disk; holds one batch at most. Leaving it removes the file's name."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="xpo-ray-prompts-", suffix=".arrow")
        os.close(handle)
        self._path = Path(name)
        self._writer = pa.ipc.new_file(name, PROMPTS)
        self._waiting: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a disk that is full has been told of before
            self._writer.close()
        self._path.unlink(missing_ok=True)

    def add(self, chunk: pa.Table) -> None:
        """Take some rows. Raises OutputError where the disk does not."""
        self._waiting.append(chunk)
        if sum(t.num_rows for t in self._waiting) >= BATCH_ROWS or sum(t.nbytes for t in self._waiting) >= BATCH_BYTES:
            self._flush()

    def finish(self) -> pa.Table:
        """The rows of all chunks, mapped."""
        self._flush()
        with self._told():
            self._writer.close()
        return mapped(self._path)

    def _flush(self) -> None:
        if self._waiting:
            with self._told():
                self._writer.write_table(pa.concat_tables(self._waiting).combine_chunks())
            self._waiting = []

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"{self._path.parent}: the tokenised prompts cannot be written there: {error}; free space, or name another "
                "folder in the environment variable TMPDIR"
            ) from error


def mapped(path: Path) -> pa.Table:
    """The table in a file, without reading it: its buffers are pages of the file."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
