"""From a source to examples: each file, or each hub repository, row by row, so that a refusal can name the file and the row.

The rows that are checked are the rows that are used; of each only the columns that a run reads are kept. Nothing is written.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from xpo_ray.datasets.example import Example
from xpo_ray.datasets.files import data_files, kind_of
from xpo_ray.datasets.rows import names_enough, reader
from xpo_ray.errors import DatasetError
from xpo_ray.spec.data import ColumnsSpec, FilesSource, HubSource


class Part(Protocol):
    """One file, or one split of a hub dataset, as rows. Methods raise DatasetError, which names the part."""

    @property
    def name(self) -> str: ...

    def columns(self, enough: Callable[[Collection[str]], bool], /) -> list[str]:
        """The columns found; where each row names its own, those of the first rows and of further ones until `enough`."""

    def rows(self, wanted: Collection[str] | None) -> Iterator[dict[str, object]]:
        """Rows in order, each with those of the wanted columns that it has; None for all."""

    def count(self) -> int | None:
        """Rows at most, without decoding them; None where that would mean to read all."""


def parts_of(source: FilesSource | HubSource, columns: ColumnsSpec) -> Iterator[Part]:
    """The files of a source, or its split of its hub datasets, one after the other. Raises DatasetError."""
    if source.kind == "files":
        for file in data_files(source.path):
            yield part_of(file, columns)
        return
    from xpo_ray.datasets.hub import hub_parts

    yield from hub_parts(source)


def part_of(file: Path, columns: ColumnsSpec | None = None) -> Part:
    """The reader of a file. Raises DatasetError for a kind that is not known."""
    names = frozenset((columns or ColumnsSpec()).model_dump().values())
    match kind_of(file):
        case "json":
            from xpo_ray.datasets.json_file import JsonPart

            return JsonPart(file, names)
        case "csv":
            from xpo_ray.datasets.csv_file import CsvPart

            return CsvPart(file, names)
        case _:
            from xpo_ray.datasets.arrow_file import ArrowPart

            return ArrowPart(file)


def read_examples(
    source: FilesSource | HubSource,
    columns: ColumnsSpec,
    *,
    needs_pairs: bool,
    algorithm: str,
    on_fault: Callable[[DatasetError], None] | None = None,
) -> Generator[Example]:
    """The examples of a source, in order, lazily; bad rows are refused as they are reached. Raises DatasetError.

    With `on_fault`, rows that cannot be read are left out and their errors told. `algorithm` is only named in messages.
    """
    for example in islice(_examples(source, columns, needs_pairs, algorithm), source.limit):
        if isinstance(example, Example):
            yield example
        elif on_fault is None:
            raise example
        else:
            on_fault(example)


def _examples(
    source: FilesSource | HubSource, columns: ColumnsSpec, needs_pairs: bool, algorithm: str
) -> Iterator[Example | DatasetError]:
    wanted = tuple(dict.fromkeys(columns.model_dump().values()))
    for part in parts_of(source, columns):
        found = part.columns(lambda names: names_enough(names, columns, needs_pairs=needs_pairs))
        read = reader(found, columns, part.name, needs_pairs=needs_pairs, algorithm=algorithm)
        for i, row in enumerate(part.rows(wanted)):
            try:
                yield read.example(row, f"{part.name}, row {i} (counted from 0)")
            except DatasetError as error:
                yield error


def count_rows(file: Path) -> int | None:
    """Rows of a file from metadata or a count of its records; for lines of JSON an upper bound.

    None for a large JSON array. Raises DatasetError for a file that cannot be read.
    """
    try:
        return 0 if file.stat().st_size == 0 else part_of(file).count()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error}") from error
