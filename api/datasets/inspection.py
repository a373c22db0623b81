"""Reads a whole dataset and reports on it: `python -m xpo_ray.api.datasets.inspection`, a process of its own.

Untrusted files are read here and not in the service: a damaged file may end the reader's process, or ask for all memory.
Asked on standard input, answers on standard output.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from xpo_ray.api.datasets.findings import PAIRED, PREVIEW_ROWS, PROMPTED, Asked, Findings, Inspected
from xpo_ray.datasets.example import Example
from xpo_ray.datasets.files import data_files
from xpo_ray.datasets.reading import Part, parts_of, read_examples
from xpo_ray.errors import DatasetError
from xpo_ray.spec.data import ColumnsSpec, FilesSource, HubSource
from xpo_ray.wire.data import ColumnReport, PreviewRow

COLUMNS = ColumnsSpec()
ROLES = COLUMNS.model_dump()
MAX_MEMORY = 6 * 2**30
MAX_FILE = 32 * 2**30
MAX_TEXT = 4000


def main() -> None:
    """Answer one question."""
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE, MAX_FILE))
    asked = Asked.model_validate_json(sys.stdin.read())
    kind = FilesSource if asked.source["kind"] == "files" else HubSource
    try:
        answer = Inspected(findings=inspect(kind.model_validate(asked.source)))
    except DatasetError as error:
        answer = Inspected(refused=str(error).replace(f"{asked.hide}/", ""))
    print(answer.model_dump_json())


def inspect(source: FilesSource | HubSource) -> Findings:
    """Read every row. Raises DatasetError with file, row and column for what cannot be read."""
    columns, raw, count = _columns(source)
    found = {name for name, _, _ in columns}
    readable = ROLES["prompt"] in found or {ROLES["chosen"], ROLES["rejected"]} <= found
    rows, pairs, normalised = _examples(source) if readable else (count, 0, [])
    size, sha256 = _content(source)
    return Findings(
        rows=rows,
        bytes=size,
        sha256=sha256,
        format=_format(raw[0], pairs) if readable and raw else None,
        columns=[ColumnReport(name=n, type=t, missing=m, role=_role(n, readable)) for n, t, m in columns],
        usable_for=[*(PAIRED if pairs == rows else ()), *PROMPTED, "custom"] if readable and rows else [],
        preview=_preview(raw, normalised),
    )


def _examples(source: FilesSource | HubSource) -> tuple[int, int, list[Example]]:
    """Rows, rows with a pair, and the first examples."""
    rows = pairs = 0
    first: list[Example] = []
    for example in read_examples(source, COLUMNS, needs_pairs=False, algorithm="any"):
        rows += 1
        pairs += example.chosen is not None
        if len(first) < PREVIEW_ROWS:
            first.append(example)
    return rows, pairs, first


def _format(row: dict[str, Any], pairs: int) -> str:
    """As the first row has it."""
    if pairs == 0:
        return "prompts"
    if not isinstance(row.get(ROLES["chosen"]), str):
        return "ultrafeedback"
    return "texts" if row.get(ROLES["prompt"]) is not None else "transcript"


def _columns(source: FilesSource | HubSource) -> tuple[list[tuple[str, str, int]], list[dict[str, Any]], int]:
    """Name, type and missing values of each column over all files; the first rows as they are; the number of rows."""
    types: dict[str, str] = {}
    present: dict[str, int] = {}
    rows = 0
    raw: list[dict[str, Any]] = []
    with closing(parts_of(source)) as parts:
        for part in parts:
            table = part.dataset.data.table
            rows += table.num_rows
            for name in table.column_names:
                types.setdefault(name, _type(table.schema.field(name).type))
                present[name] = present.get(name, 0) + table.num_rows - _missing(table[name])
            raw += _first(part, PREVIEW_ROWS - len(raw))
    return [(name, kind, rows - present[name]) for name, kind in types.items()], raw, rows


def _first(part: Part, wanted: int) -> list[dict[str, Any]]:
    try:
        return [part.dataset[i] for i in range(min(wanted, len(part.dataset)))]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{part.name}: not UTF-8: {error}; write the file as UTF-8") from error


def _missing(column: pa.ChunkedArray) -> int:
    empty = 0
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        empty = pc.sum(pc.equal(pc.binary_length(column), 0)).as_py() or 0
    return int(column.null_count) + empty


def _type(kind: pa.DataType) -> str:
    """A word for an Arrow type."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        inner = {kind.value_type.field(i).name for i in range(kind.value_type.num_fields)}
        if {"role", "content"} <= inner:
            return "messages"
    return str(kind)[:80]


def _role(name: str, readable: bool) -> str:
    return next((role for role, column in ROLES.items() if column == name), "unused") if readable else "unused"


def _preview(raw: list[dict[str, Any]], examples: list[Example]) -> list[PreviewRow]:
    """The first rows; normalised where the format was recognised."""
    return [_preview_row(i, row, examples[i] if i < len(examples) else None) for i, row in enumerate(raw)]


def _preview_row(index: int, row: dict[str, Any], example: Example | None) -> PreviewRow:
    prompt = None if example is None else [{k: _short(str(v)) for k, v in m.items()} for m in example.prompt]
    answers = (None, None) if example is None else (example.chosen, example.rejected)
    chosen, rejected = (None if a is None else _short(a) for a in answers)
    texts = {str(k): _short(v if isinstance(v, str) else _json(v)) for k, v in row.items()}
    return PreviewRow(row=index, prompt=prompt, chosen=chosen, rejected=rejected, raw=texts)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _content(source: FilesSource | HubSource) -> tuple[int | None, str | None]:
    """Bytes of all files and a hash over them."""
    if isinstance(source, HubSource):
        return None, None
    total, sha = 0, hashlib.sha256()
    for size, digest in _hashes(data_files(source.path)):
        total += size
        sha.update(f"{size} {digest}\n".encode())
    return total, sha.hexdigest()


def _hashes(files: list[Path]) -> Iterator[tuple[int, str]]:
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield path.stat().st_size, digest


if __name__ == "__main__":
    main()
