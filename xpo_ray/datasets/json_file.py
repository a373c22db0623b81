"""Rows of a JSON file, parsed one by one: an object on each line, an array of objects, or one object around such an array.

No types are inferred: a value is what the file says, and columns that nobody reads may hold anything.
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from xpo_ray.datasets.json_scanner import NotJson, Scanner
from xpo_ray.datasets.opening import opened_bytes, opened_text, text_lines
from xpo_ray.errors import DatasetError

Row = dict[str, object]
FIRST_ROWS = 1000
LONG_LINE = 1 << 20
BLANK = b" \t\r\n\xef\xbb\xbf"
MAX_COUNTED_BYTES = 50_000_000
LAYOUT = (
    "a JSON file has one object on each line, or is an array of objects (jq -c . OLD > NEW.jsonl puts each on one line)"
)


@dataclass(frozen=True)
class JsonPart:
    """A JSON file. `names` are the columns that a run may read: an object that has one is a row."""

    file: Path
    names: frozenset[str]

    @property
    def name(self) -> str:
        return str(self.file)

    def columns(self, enough: Callable[[Collection[str]], bool]) -> list[str]:
        """Keys of the first rows, and of more where they are not enough to know what the file holds."""
        found: dict[str, None] = {}
        for i, row in enumerate(self.rows(None), start=1):
            found.update(dict.fromkeys(row))
            if i >= FIRST_ROWS and enough(found):
                break
        return list(found)

    def rows(self, wanted: Collection[str] | None) -> Iterator[Row]:
        """Rows in order, with those of the wanted keys that they have. Raises DatasetError where no row is left."""
        layout = self._layout()
        rows = _lines(self.file) if layout == "lines" else _items(self.file, self.names)
        none = True
        for row in rows:
            none = False
            yield row if wanted is None else {key: row[key] for key in wanted if key in row}
        if none:
            raise DatasetError(f"{self.name}: no rows; give a file that has some")

    def count(self) -> int | None:
        """Lines that are not blank, or items; None for an array that is too large to be parsed for it."""
        if self._layout() == "lines":
            with opened_bytes(self.file) as (stream, encoding):
                if encoding == "utf-8-sig":
                    return sum(bool(line.strip(BLANK)) for line in stream)
            return sum(bool(line.strip()) for line in text_lines(self.file))
        if self.file.stat().st_size > MAX_COUNTED_BYTES:
            return None
        return sum(1 for _ in _items(self.file, self.names))

    def _layout(self) -> str:
        with opened_text(self.file) as text:
            first = text.readline(LONG_LINE)
            while first and not first.strip():
                first = text.readline(LONG_LINE)
            if not first.lstrip().startswith(("[", "{")):
                return "lines"
            if first.lstrip().startswith("["):
                return "items"
            row = _parsed(first)
            more = any(line.strip() for line in islice(text, 2))
        if row is not None and (more or not self.names.isdisjoint(row)):
            return "lines"
        return "items" if _wraps(self.file, self.names) else "lines"


def _parsed(line: str) -> Row | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lines(file: Path) -> Iterator[Row]:
    for number, line in enumerate(text_lines(file), start=1):
        if line.strip():
            yield _object(line, file, number)


def _object(line: str, file: Path, number: int) -> Row:
    try:
        value = _loaded(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: line {number} is not JSON: {error}; {LAYOUT}") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{file}: line {number} is not a JSON object but {type(value).__name__}; {LAYOUT}")
    return value


def _loaded(line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a whole number of more digits than Python reads
        return json.loads(line, parse_int=float)


def _wraps(file: Path, names: Collection[str]) -> bool:
    """Whether a file is one object with an array of objects in it."""
    with opened_text(file) as text:
        try:
            return Scanner(text).enter_list(names) is not None
        except NotJson:
            return False


def _items(file: Path, names: Collection[str]) -> Iterator[Row]:
    with opened_text(file) as text:
        scanner = Scanner(text)
        read = 0
        try:
            inside = scanner.enter_list(names)
            for item in scanner.items():
                if not isinstance(item, dict):
                    raise NotJson(f"it is {type(item).__name__} and no object")
                yield item
                read += 1
            other = scanner.leave_list(inside)
        except NotJson as error:
            raise DatasetError(f"{file}: row {read} (counted from 0) is not JSON: {error}; {LAYOUT}") from error
    if other is not None:
        raise DatasetError(
            f"{file}: holds two lists of objects, {inside!r} and {other!r}; write the one to read as a file of its own "
            f"(jq -c '.{inside}[]' OLD > NEW.jsonl)"
        )
