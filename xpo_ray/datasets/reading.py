"""Reads a source with the `datasets` library, file by file, so that a refusal can name the file and the row.

Files go through a temporary cache that is removed at the end; hub datasets use the hub's own cache. No setting of the
`datasets` library is left changed.
"""

import contextlib
import glob
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpo_ray.datasets.example import Example
from xpo_ray.datasets.files import count_rows, csv_shape, data_files, json_fault, kind_of
from xpo_ray.datasets.rows import reader
from xpo_ray.errors import DatasetError
from xpo_ray.spec.data import ColumnsSpec, FilesSource, HubSource

if TYPE_CHECKING:
    from datasets import Dataset

BATCH_ROWS = 1000


@dataclass(frozen=True)
class Part:
    """One file, or one split of a hub dataset, as rows."""

    name: str
    dataset: "Dataset"


def parts_of(source: FilesSource | HubSource) -> Generator[Part]:
    """The files of a source, or its split of its hub datasets, one after the other; close it. Raises DatasetError."""
    return _files(source) if source.kind == "files" else _hub(source)


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
    The generator holds a temporary folder until it is exhausted or closed.
    """
    parts = parts_of(source)
    with contextlib.closing(parts):
        examples = _examples(parts, columns, needs_pairs, algorithm)
        for example in islice(examples, source.limit):
            if isinstance(example, Example):
                yield example
            elif on_fault is None:
                raise example
            else:
                on_fault(example)


def _examples(
    parts: Iterator[Part], columns: ColumnsSpec, needs_pairs: bool, algorithm: str
) -> Iterator[Example | DatasetError]:
    for part in parts:
        read = reader(part.dataset.column_names, columns, part.name, needs_pairs=needs_pairs, algorithm=algorithm)
        for i, row in enumerate(_rows(part, columns)):
            try:
                yield read.example(row, f"{part.name}, row {i} (counted from 0)")
            except DatasetError as error:
                yield error


def _rows(part: Part, columns: ColumnsSpec) -> Iterator[dict[str, Any]]:
    wanted = [c for c in columns.model_dump().values() if c in part.dataset.column_names]
    dataset = part.dataset.select_columns(list(dict.fromkeys(wanted)))
    for start in range(0, len(dataset), BATCH_ROWS):
        batch = _values(dataset, start, min(start + BATCH_ROWS, len(dataset)), part.name)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _values(dataset: "Dataset", start: int, stop: int, name: str) -> dict[str, list[Any]]:
    """Columns of some rows as Python values; texts are decoded only here."""
    try:
        values: dict[str, list[Any]] = dataset[start:stop]
        return values
    except UnicodeDecodeError as error:
        if stop - start > 1:
            middle = (start + stop) // 2
            _values(dataset, start, middle, name)
            return _values(dataset, middle, stop, name)
        raise DatasetError(
            f"{name}, row {start} (counted from 0): not UTF-8: {error}; write the file as UTF-8"
        ) from error


def _files(source: FilesSource) -> Generator[Part]:
    files = data_files(source.path)
    with tempfile.TemporaryDirectory(prefix="xpo-ray-datasets-") as cache:
        for file in files:
            yield Part(str(file), _load_file(file, cache))


def _load_file(file: Path, cache: str) -> "Dataset":
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    options = _checked(file)
    try:
        with _quiet():
            return load_dataset(
                kind_of(file),
                data_files=[glob.escape(str(file.absolute()))],
                split="train",
                cache_dir=cache,
                **options,
            )
    except (DatasetsError, OSError, ValueError, TypeError, NotImplementedError, StopIteration) as error:
        raise DatasetError(f"{file}: {_fault(file, error)}") from error


def _checked(file: Path) -> dict[str, Any]:
    """Refuse what the loader would read wrongly or die of; else the options to load the file with."""
    try:
        if file.stat().st_size == 0:
            raise DatasetError(f"{file}: no rows; give a file that has some")
        return _options(file)
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read: {error}") from error


def _options(file: Path) -> dict[str, Any]:
    match kind_of(file):
        case "parquet":
            if count_rows(file) == 0:
                raise DatasetError(f"{file}: no rows; give a file that has some")
            return {"fragment_scan_options": _piecewise()}
        case "json":
            if fault := json_fault(file):
                raise DatasetError(f"{file}: {fault}")
            return {"parse_agent_traces": False}
        case _:
            return _csv_options(file)


def _piecewise() -> Any:
    """Do not hold the bytes of a whole file before its first row is decoded."""
    from pyarrow.dataset import ParquetFragmentScanOptions

    return ParquetFragmentScanOptions(pre_buffer=False, use_buffered_stream=True)


def _csv_options(file: Path) -> dict[str, Any]:
    """All fields stay the texts that they are ("007", "NA"); records of uneven length would lose some silently."""
    from datasets import Features, Value

    header, widths = csv_shape(file)
    if repeated := sorted({c for c in header if header.count(c) > 1}):
        raise DatasetError(
            f"{file}: the header names {', '.join(map(repr, repeated))} more than once; rename the columns"
        )
    for row, width in enumerate(widths):
        if width != len(header):
            raise DatasetError(
                f"{file}, row {row} (counted from 0): {width} fields, the header has {len(header)}; "
                "quote texts that hold commas or line breaks"
            )
    return {"features": Features({c: Value("string") for c in header}), "na_filter": False, "index_col": False}


def _fault(file: Path, error: Exception) -> str:
    """What is wrong with a file that the loader gave up on."""
    if count_rows(file) == 0:
        return "no rows; give a file that has some"
    return f"cannot be read as {kind_of(file)}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """The first cause, which is what the loader's own message leaves out."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}".strip().rstrip(":")


def _hub(source: HubSource) -> Generator[Part]:
    for name in source.names:
        yield _repository(name, source)


def _repository(repository: str, source: HubSource) -> Part:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    name = f"{repository}[{source.split}]"
    if Path(repository).exists():
        raise DatasetError(
            f"data.source.name {repository!r} is also a folder here, which would be read instead of the hub; "
            "use kind: files for the folder, or start the run from elsewhere"
        )
    try:
        with _quiet():
            dataset = load_dataset(repository, source.config, split=source.split, revision=source.revision)
    except (DatasetsError, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise DatasetError(
            f"hub dataset {name}: {_reason(error)}; check name, config, split, revision and the network (or download it "
            "and use kind: files)"
        ) from error
    if len(dataset) == 0:
        raise DatasetError(f"hub dataset {name}: no rows; choose another split")
    return Part(name, dataset)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines of the `datasets` library; its settings are put back."""
    from datasets import config, disable_progress_bars, enable_progress_bars
    from datasets.utils import are_progress_bars_disabled
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    switch = config.HF_DATASETS_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    verbosity = get_verbosity()
    set_verbosity(CRITICAL)
    if switch:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if switch:
            enable_progress_bars()
