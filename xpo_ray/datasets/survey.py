"""What a source holds beside what is read of it: files, splits, and columns that no run looks at. Reads some rows at most.

`xpo-ray validate` tells it, so that nobody believes a column to be used that is not.
"""

from dataclasses import dataclass
from pathlib import Path

from xpo_ray.datasets.files import saved_splits
from xpo_ray.datasets.reading import Part, parts_of
from xpo_ray.datasets.rows import columns_read, names_enough, reader
from xpo_ray.spec.data import ColumnsSpec, FilesSource, HubSource


@dataclass(frozen=True)
class SourceSurvey:
    """Of one source."""

    parts: tuple[str, ...]
    """The files, or the splits of hub repositories, in the order in which they are read."""
    columns: dict[str, str]
    """What is read: prompt, chosen, … and the name of the column."""
    unread: tuple[str, ...]
    """Columns that are not read; of JSON those of the first 1,000 rows of each file."""
    splits: tuple[str, ...]
    """All splits of the dataset, where it names them."""
    split: str | None
    """The one that is read."""


def survey(
    source: FilesSource | HubSource, columns: ColumnsSpec, *, needs_pairs: bool = False, algorithm: str = ""
) -> SourceSurvey:
    """Look at each part of a source. Raises DatasetError, also for one that lacks the columns which a run would need."""
    parts = list(parts_of(source, columns))
    found: list[str] = []
    for part in parts:
        names = part.columns(lambda seen: names_enough(seen, columns, needs_pairs=needs_pairs))
        reader(names, columns, part.name, needs_pairs=needs_pairs, algorithm=algorithm)
        found += names
    read = columns_read(found, columns)
    unread = tuple(dict.fromkeys(column for column in found if column not in read))
    splits, split = _splits(source, parts)
    return SourceSurvey(
        tuple(part.name for part in parts), {role: column for column, role in read.items()}, unread, splits, split
    )


def _splits(source: FilesSource | HubSource, parts: list[Part]) -> tuple[tuple[str, ...], str | None]:
    if isinstance(source, HubSource):
        from xpo_ray.datasets.hub import HubPart

        known = [split for part in parts if isinstance(part, HubPart) for split in part.splits]
        return tuple(dict.fromkeys(known)), source.split
    folder = Path(parts[0].name).parent
    splits = tuple(saved_splits(folder.parent))
    return (splits, folder.name) if folder.name in splits else ((), None)
