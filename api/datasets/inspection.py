"""Reads a whole dataset and reports on it: `python -m xpo_ray.api.datasets.inspection`, a process of its own.

Untrusted files are read here and not in the service: a damaged file may end the reader's process, or ask for all memory.
Asked on standard input, answers on standard output.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpo_ray.api.datasets.columns import Tally
from xpo_ray.api.datasets.findings import PAIRED, PREVIEW_ROWS, PROMPTED, Asked, Findings, Inspected
from xpo_ray.datasets.example import Example
from xpo_ray.datasets.files import data_files
from xpo_ray.datasets.reading import parts_of, read_examples
from xpo_ray.datasets.rows import columns_read, names_enough
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
    tally = Tally()
    for part in parts_of(source, COLUMNS):
        tally.add(part)
    columns, raw = tally.columns(), tally.first
    found = {name for name, _, _ in columns}
    readable = names_enough(found, COLUMNS, needs_pairs=False)
    roles = columns_read(found, COLUMNS) if readable else {}
    rows, pairs, normalised = _examples(source) if readable else (tally.rows, 0, [])
    size, sha256 = _content(source)
    return Findings(
        rows=rows,
        bytes=size,
        sha256=sha256,
        format=_format(raw[0], pairs) if readable and raw else None,
        columns=[
            ColumnReport.model_validate({"name": n, "type": t, "missing": m, "role": roles.get(n, "unused")})
            for n, t, m in columns
        ],
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
    if row.get(ROLES["prompt"]) is None and row.get(ROLES["conversations"]) is not None:
        return "sharegpt"
    if not isinstance(row.get(ROLES["chosen"]), str):
        return "ultrafeedback"
    return "texts" if row.get(ROLES["prompt"]) is not None else "transcript"


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
