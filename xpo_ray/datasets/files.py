"""Which files a dataset's path names, of what kind they are, and how many rows they hold. Loads no library of datasets.

The reader walks these files; the plan counts their rows from metadata alone.
"""

import csv
import difflib
import glob
import json
from pathlib import Path

from xpo_ray.errors import DatasetError

KINDS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
MAX_COUNTED_JSON_BYTES = 50_000_000
"""A JSON array has no lines to count; larger ones are not parsed for their number of rows."""


def data_files(path: str | tuple[str, ...]) -> list[Path]:
    """The files that a path names: entries in their order, a folder's or glob's files sorted, each file once.

    A folder stands for the files directly in it, which must be of one kind. Raises DatasetError.
    """
    entries = (path,) if isinstance(path, str) else path
    files = list(dict.fromkeys(file for entry in entries for file in _expand(entry)))
    if not files:
        raise DatasetError("data.source.path is an empty list; name a file, a folder or a glob")
    return files


def kind_of(file: Path) -> str:
    """parquet, json or csv, by the file's extension. Raises DatasetError."""
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise DatasetError(
            f"{file}: unknown extension {file.suffix!r}; known are {', '.join(KINDS)} (decompress or convert the file)"
        )
    return kind


def _expand(entry: str) -> list[Path]:
    path = Path(entry)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        files = [path]
    elif glob.has_magic(entry):
        files = sorted(p for p in map(Path, glob.glob(entry, recursive=True)) if p.is_file())
        if not files:
            raise DatasetError(f"{entry}: no file matches this glob")
    else:
        raise DatasetError(f"{entry}: no such file or folder{_nearest(path)}")
    for file in files:
        kind_of(file)
    return files


def _folder(folder: Path) -> list[Path]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and f.suffix.lower() in KINDS)
    if not files:
        raise DatasetError(
            f"{folder}: no {', '.join(KINDS)} file directly in this folder; for sub-folders give a glob such as "
            f"{folder}/**/*.parquet"
        )
    suffixes = sorted({f.suffix.lower() for f in files})
    if len({KINDS[s] for s in suffixes}) > 1:
        raise DatasetError(
            f"{folder}: holds files of several kinds ({', '.join(suffixes)}), and one may be no data; "
            f"say which with a glob such as {folder}/*{suffixes[0]}"
        )
    return files


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return ""
    near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def count_rows(file: Path) -> int | None:
    """Rows of a file from metadata or a count of its records; for lines of JSON an upper bound.

    None for a JSON array over 50 MB. Raises DatasetError for a file that cannot be read.
    """
    try:
        match kind_of(file):
            case "parquet":
                return _parquet_rows(file)
            case "csv":
                return len(csv_shape(file)[1])
            case _:
                return _json_rows(file)
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: cannot be read: {error}") from error


def _parquet_rows(file: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(file).num_rows)
    except pa.ArrowException as error:
        raise DatasetError(f"{file}: not a Parquet file, or damaged: {error}; write it anew") from error


def csv_shape(file: Path) -> tuple[list[str], list[int]]:
    """Column names of a CSV file, and the number of fields of each row; blank lines are no rows. Raises DatasetError."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        records = (record for record in csv.reader(lines) if record)
        try:
            return next(records, []), [len(record) for record in records]
        except UnicodeDecodeError as error:
            raise DatasetError(f"{file}: not UTF-8: {error}; write the file as UTF-8") from error
        except csv.Error as error:
            raise DatasetError(f"{file}: not CSV: {error}; write long texts as jsonl or parquet") from error


def _json_rows(file: Path) -> int | None:
    if not is_json_array(file):
        with file.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    if file.stat().st_size > MAX_COUNTED_JSON_BYTES:
        return None
    try:
        return len(json.loads(file.read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: not JSON: {error}") from error


def is_json_array(file: Path) -> bool:
    """Whether a JSON file is one array; else it has an object on each line."""
    with file.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    return first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def json_fault(file: Path) -> str | None:
    """The first row of a JSON file that is not an object, with its place and what is wrong; None for a sound file.

    Asked before anything else parses the file: pyarrow's reader ends the whole process on a row that is null.
    """
    if is_json_array(file):
        return _array_fault(file)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip() and (fault := _line_fault(line)):
                return f"line {number} {fault}; a JSON file has one object on each line, or is an array of objects"
    return None


def _line_fault(line: bytes) -> str | None:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    return None if isinstance(value, dict) else f"is not a JSON object but {type(value).__name__}"


def _array_fault(file: Path) -> str | None:
    try:
        items = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return f"is not JSON: {error}"
    odd = next((i for i, item in enumerate(items) if not isinstance(item, dict)), None)
    return None if odd is None else f"row {odd} (counted from 0) is not a JSON object but {type(items[odd]).__name__}"
