"""Rows of a CSV file: every field stays the text that it is ("007", "NA", "2024-01-01"). Commas, semicolons, tabs or bars.

Which of them separates fields is seen from the header, and from the header alone. Uneven rows and open quotes are refused.
"""

import csv
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.datasets.opening import opened_text
from xpo_ray.errors import DatasetError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
Record = tuple[int, list[str]]
"""The line that a record ends in, and its fields."""


@dataclass(frozen=True)
class CsvPart:
    """A CSV file. `names` are the columns that a run may read: the delimiter is the one under which the header has most."""

    file: Path
    names: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.file)

    def columns(self, _enough: Callable[[Collection[str]], bool]) -> list[str]:
        """The names in the header; a column without a name, such as an index that was written along, is called ""."""
        header = next(_records(self.file, *self._dialect()), None)
        if header is None:
            raise DatasetError(f"{self.name}: no rows; give a file that has some")
        return self._header(header[1])

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, object]]:
        """Rows in order, with the wanted columns. Raises DatasetError where no row is left, or one has other fields."""
        delimiter, skipped = self._dialect()
        records = _records(self.file, delimiter, skipped)
        header = self._header(next(records, (0, []))[1])
        picked = [(i, name) for i, name in enumerate(header) if wanted is None or name in wanted]
        row = -1
        for row, (line, fields) in enumerate(records):
            if len(fields) != len(header):
                raise DatasetError(
                    f"{self.name}, row {row} (counted from 0): {len(fields)} fields, the header has {len(header)} (line "
                    f"{line}); quote texts that hold {DELIMITERS[delimiter]} or line breaks"
                )
            yield {name: fields[i] for i, name in picked}
        if row < 0:
            raise DatasetError(f"{self.name}: no rows; give a file that has some")

    def count(self) -> int | None:
        """Records behind the header."""
        return max(sum(1 for _ in _records(self.file, *self._dialect())) - 1, 0)

    def _header(self, fields: list[str]) -> list[str]:
        header = [field.strip() for field in fields]
        if repeated := sorted({c for c in header if c in self.names and header.count(c) > 1}):
            raise DatasetError(
                f"{self.name}: the header names {', '.join(map(repr, repeated))} more than once; rename the columns"
            )
        return header

    def _dialect(self) -> tuple[str, int]:
        """The delimiter, and the lines before the header: Excel may say `sep=;` there."""
        with opened_text(self.file) as text:
            first = text.readline()
            if first[:4].lower() == "sep=" and first[4:5] in DELIMITERS:
                return first[4], 1
            while first and not first.strip():
                first = text.readline()
        if ".tsv" in (suffix.lower() for suffix in self.file.suffixes[-2:]):
            return "\t", 0
        return max(DELIMITERS, key=lambda delimiter: len(self.names & self._names(first, delimiter))), 0

    def _names(self, line: str, delimiter: str) -> set[str]:
        return {field.strip() for field in next(csv.reader([line], delimiter=delimiter), [])}


def _records(file: Path, delimiter: str, skipped: int) -> Iterator[Record]:
    """Records that are not blank."""
    with opened_text(file) as text:
        for _ in range(skipped):
            text.readline()
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if record:
                    yield reader.line_num + skipped, record
        except csv.Error as error:
            raise DatasetError(f"{file}: not CSV up to line {reader.line_num + skipped}: {_said(error)}") from error


def _said(error: csv.Error) -> str:
    if "field larger" in str(error):
        return f"{error}: a quote is open, or the text is that long; close it, or write jsonl or parquet"
    if "unexpected end" in str(error):
        return "a quote is never closed; close it, and write a quote within quotes twice"
    return f"{error}; write a quote within quotes twice, or the file as jsonl or parquet"
