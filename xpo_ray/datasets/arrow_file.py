"""Rows of Parquet and Arrow files: only the columns that are read are decoded, some rows at a time.

`Dataset.save_to_disk` writes Arrow files. Nothing of a file is copied to another place.
"""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.datasets.files import kind_of
from xpo_ray.datasets.opening import HEAD_BYTES, not_text
from xpo_ray.errors import DatasetError

BATCH_ROWS = 1000


@dataclass(frozen=True)
class ArrowPart:
    """A Parquet or Arrow file."""

    file: Path

    @property
    def name(self) -> str:
        return str(self.file)

    def columns(self, _enough: Callable[[Collection[str]], bool]) -> list[str]:
        """The names of its schema."""
        if self.count() == 0:
            raise self._empty()
        return list(self.schema().names)

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, object]]:
        """Rows in order, with those of the wanted columns that there are. Raises DatasetError where no row is left."""
        start = 0
        for batch in self.batches(wanted):
            yield from rows_of(batch, start, self.name)
            start += batch.num_rows
        if start == 0:
            raise self._empty()

    def schema(self) -> pa.Schema:
        """Names and types of the columns. Raises DatasetError."""
        with self._told():
            if self._parquet:
                return pq.read_schema(self.file)
            with pa.memory_map(str(self.file)) as source:
                return _reader(source).schema

    def batches(self, wanted: Collection[str] | None) -> Iterator[pa.RecordBatch]:
        """Some rows after the other."""
        names = [name for name in self.schema().names if wanted is None or name in wanted]
        with self._told():
            if self._parquet:
                with pq.ParquetFile(self.file, pre_buffer=False, buffer_size=1 << 20) as parquet:
                    yield from parquet.iter_batches(BATCH_ROWS, columns=names)
                return
            with pa.memory_map(str(self.file)) as source:
                for batch in _batches(_reader(source)):
                    picked = batch.select(names)
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        yield picked.slice(start, BATCH_ROWS)

    def count(self) -> int | None:
        """From the metadata alone."""
        with self._told():
            if self._parquet:
                return int(pq.read_metadata(self.file).num_rows)
            with pa.memory_map(str(self.file)) as source:
                return sum(int(batch.num_rows) for batch in _batches(_reader(source)))

    def _empty(self) -> DatasetError:
        return DatasetError(f"{self.name}: no rows; give a file that has some")

    @property
    def _parquet(self) -> bool:
        return kind_of(self.file) == "parquet"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            if (pointer := _pointer(self.file)) is not None:
                raise DatasetError(f"{self.name}: is {pointer}") from error
            kind = "a Parquet file" if self._parquet else "an Arrow file"
            raise DatasetError(f"{self.name}: not {kind}, or damaged: {error}; write it anew") from error


def rows_of(batch: pa.RecordBatch, start: int, name: str) -> Iterator[dict[str, object]]:
    """The rows of a batch, the first of which is the file's row `start`; texts are decoded here. Raises DatasetError."""
    try:
        columns = [_values(column) for column in batch.columns]
    except UnicodeDecodeError as error:
        if batch.num_rows > 1:
            middle = batch.num_rows // 2
            yield from rows_of(batch.slice(0, middle), start, name)
            yield from rows_of(batch.slice(middle), start + middle, name)
            return
        raise DatasetError(
            f"{name}, row {start} (counted from 0): not UTF-8: {error}; write the file as UTF-8"
        ) from error
    names = batch.schema.names
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    """A column as Python values; what `datasets` stores as the text of JSON, where rows differ in form, as what it says."""
    values: list[Any] = column.to_pylist()
    return [_decoded(value, column.type) for value in values] if "arrow.json" in str(column.type) else values


def _decoded(value: Any, kind: pa.DataType) -> Any:
    if value is None:
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_decoded(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _decoded(value[field.name], field.type) for field in kind}
    return json.loads(value) if "arrow.json" in str(kind) else value


def _reader(source: pa.MemoryMappedFile) -> Any:
    """Of a stream, as `datasets` writes it, or of a file with an index at its end."""
    if source.read(6) == b"ARROW1":
        return pa.ipc.open_file(source)
    source.seek(0)
    return pa.ipc.open_stream(source)


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(reader)


def _pointer(file: Path) -> str | None:
    """What stands where the file should be."""
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return None
    return None if head.startswith((b"PAR1", b"ARROW1")) else not_text(head)
