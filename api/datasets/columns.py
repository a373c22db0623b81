"""Name, type and missing values of each column of a dataset, over all its rows, and the first rows as they are.

The inspection of a dataset asks; types are words for people, of what stands in the files.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from xpo_ray.api.datasets.findings import PREVIEW_ROWS
from xpo_ray.datasets.arrow_file import ArrowPart, rows_of
from xpo_ray.datasets.hub import HubPart
from xpo_ray.datasets.reading import Part

WORDS = {str: "text", bool: "true or false", int: "number", float: "number", type(None): "nothing"}


@dataclass
class Tally:
    """What has been counted so far."""

    types: dict[str, str] = field(default_factory=dict)
    present: dict[str, int] = field(default_factory=dict)
    first: list[dict[str, object]] = field(default_factory=list)
    rows: int = 0

    def add(self, part: Part) -> None:
        """Count a part to its last row. Raises DatasetError."""
        if isinstance(part, ArrowPart):
            self._batches(part.batches(None), part.name)
        elif isinstance(part, HubPart):
            self.first += islice(part.rows(None), PREVIEW_ROWS - len(self.first))
            self._batches(part.dataset.data.table.to_batches(), None)
        else:
            for row in part.rows(None):
                self._row(row)

    def columns(self) -> list[tuple[str, str, int]]:
        """Name, type and number of missing values of each column."""
        return [(name, kind, self.rows - self.present[name]) for name, kind in self.types.items()]

    def _row(self, row: dict[str, object]) -> None:
        self.rows += 1
        if len(self.first) < PREVIEW_ROWS:
            self.first.append(row)
        for name, value in row.items():
            word = _word(value)
            if self.types.setdefault(name, word) != word and word != "nothing":
                self.types[name] = word if self.types[name] == "nothing" else "mixed"
            self.present[name] = self.present.get(name, 0) + (value is not None and value != "")

    def _batches(self, batches: Iterator[pa.RecordBatch] | list[pa.RecordBatch], name: str | None) -> None:
        for batch in batches:
            if name is not None and (more := PREVIEW_ROWS - len(self.first)) > 0:
                self.first += rows_of(batch.slice(0, more), self.rows, name)
            self.rows += batch.num_rows
            for field_, column in zip(batch.schema, batch.columns, strict=True):
                self.types.setdefault(field_.name, _type(field_.type))
                self.present[field_.name] = self.present.get(field_.name, 0) + batch.num_rows - _missing(column)


def _missing(column: pa.Array) -> int:
    empty = 0
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        empty = pc.sum(pc.equal(pc.binary_length(column), 0)).as_py() or 0
    return int(column.null_count) + empty


def _word(value: object) -> str:
    """A word for a value of a JSON or CSV file."""
    if isinstance(value, list):
        keys = [set(item) if isinstance(item, dict) else set() for item in value]
        return "messages" if keys and all({"role", "content"} <= k or {"from", "value"} <= k for k in keys) else "list"
    return WORDS.get(type(value), "object")


def _type(kind: pa.DataType) -> str:
    """A word for an Arrow type."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        inner = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)}
        if {"role", "content"} <= inner or {"from", "value"} <= inner:
            return "messages"
    return str(kind)[:80]
