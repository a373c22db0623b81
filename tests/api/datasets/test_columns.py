"""What the inspection says of columns: types as words, missing values, the first rows; over all files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.api.datasets.columns import Tally
from xpo_ray.api.datasets.findings import PREVIEW_ROWS
from xpo_ray.api.datasets.inspection import inspect
from xpo_ray.datasets.reading import part_of
from xpo_ray.spec.data import FilesSource


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_types_are_words_for_what_stands_there(tmp_path: Path) -> None:
    turn = {"from": "human", "value": "Hi"}
    first = {"a": "x", "b": None, "c": 1, "d": [turn], "e": [1], "f": {}, "g": True, "h": ""}
    tally = Tally()
    tally.add(part_of(jsonl(tmp_path / "a.jsonl", first, {"a": 2, "b": "y", "c": 1.5, "i": None})))
    assert {name: (kind, missing) for name, kind, missing in tally.columns()} == {
        "a": ("mixed", 0),
        "b": ("text", 1),
        "c": ("number", 0),
        "d": ("messages", 1),
        "e": ("list", 1),
        "f": ("object", 1),
        "g": ("true or false", 1),
        "h": ("text", 2),
        "i": ("nothing", 2),
    }
    assert (tally.rows, tally.first[0]) == (2, first)


def test_files_of_several_kinds_are_one_count_and_the_first_rows_are_those_of_all(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x", "", None] * 15}), tmp_path / "a.parquet")
    tally = Tally()
    tally.add(part_of(tmp_path / "a.parquet"))
    tally.add(part_of(jsonl(tmp_path / "b.jsonl", *[{"a": str(i)} for i in range(20)])))
    assert (tally.rows, tally.columns()) == (65, [("a", "text", 30)])
    assert [row["a"] for row in tally.first] == ["x", "", None] * 15 + ["0", "1", "2", "3", "4"]
    assert len(tally.first) == PREVIEW_ROWS


def test_sharegpt_pairs_with_a_system_column_are_recognised(tmp_path: Path) -> None:
    answer = {"from": "gpt", "value": "a"}
    row = {"conversations": [{"from": "human", "value": "Hi"}], "chosen": answer, "rejected": answer, "system": "s"}
    found = inspect(FilesSource(kind="files", path=str(jsonl(tmp_path / "a.jsonl", row, row))))
    assert (found.format, "selm" in found.usable_for) == ("sharegpt", True)
    assert {c.name: c.role for c in found.columns} == {name: name for name in row}
    assert found.preview[0].prompt == [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi"}]
