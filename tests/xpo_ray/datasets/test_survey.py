"""What a source holds beside what is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import write_parquet
from tests.xpo_ray.test_datasets import files, write_csv
from xpo_ray.datasets.survey import survey
from xpo_ray.errors import DatasetError
from xpo_ray.spec import ColumnsSpec


@pytest.mark.parametrize(
    ("row", "read", "unread"),
    [
        ({"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, "system chosen rejected prompt", ""),
        ({"prompt": "q", "chosen": "a", "system_prompt": "s"}, "prompt", "chosen system_prompt"),
        (
            {"prompt": "q", "conversations": [], "chosen": "a", "rejected": "b"},
            "prompt chosen rejected",
            "conversations",
        ),
        ({"conversations": [], "chosen": {}, "rejected": {}, "tools": ""}, "conversations chosen rejected", "tools"),
    ],
)
def test_columns_are_told_as_read_or_not(tmp_path: Path, row: dict[str, Any], read: str, unread: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    columns = ColumnsSpec(prompt="question") if "question" in row else ColumnsSpec()
    found = survey(files(tmp_path / "a.jsonl"), columns)
    assert set(found.columns) == set(read.split())
    assert found.unread == tuple(unread.split())


def test_all_files_are_looked_at_and_an_index_has_no_name(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [{"prompt": "q", "x": 1}])
    write_csv(tmp_path / "b.csv", [{"": "0", "prompt": "q"}])
    found = survey(files((str(tmp_path / "a.parquet"), str(tmp_path / "b.csv"))), ColumnsSpec())
    assert [Path(name).name for name in found.parts] == ["a.parquet", "b.csv"]
    assert (found.columns, found.unread, found.splits, found.split) == ({"prompt": "prompt"}, ("x", ""), (), None)


@pytest.mark.parametrize(("row", "needs_pairs"), [({"question": "q"}, False), ({"prompt": "q", "chosen": "a"}, True)])
def test_a_source_without_the_columns_that_a_run_needs_is_refused(
    tmp_path: Path, row: dict[str, Any], needs_pairs: bool
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DatasetError, match="name yours under"):
        survey(files(tmp_path / "a.jsonl"), ColumnsSpec(), needs_pairs=needs_pairs, algorithm="selm")
