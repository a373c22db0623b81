"""Parquet, Arrow and what `save_to_disk` wrote: only what is read is decoded."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny import tiny_pairs
from tests.xpo_ray.test_datasets import files, read
from xpo_ray.datasets.arrow_file import ArrowPart
from xpo_ray.datasets.files import data_files
from xpo_ray.datasets.reading import count_rows
from xpo_ray.datasets.survey import survey
from xpo_ray.errors import DatasetError
from xpo_ray.spec import ColumnsSpec


def test_a_saved_dataset_is_read_in_its_order_by_its_folder(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_list(tiny_pairs(9)).save_to_disk(tmp_path / "saved", num_shards=3)
    assert [e.prompt_id for e in read(tmp_path / "saved")] == [f"tiny-{i}" for i in range(9)]
    assert [count_rows(file) for file in data_files(str(tmp_path / "saved"))] == [3, 3, 3]
    with_indices = Dataset.from_list(tiny_pairs(5)).select([3, 1])
    with_indices.save_to_disk(tmp_path / "chosen")
    assert [e.prompt_id for e in read(tmp_path / "chosen")] == ["tiny-3", "tiny-1"]
    next((tmp_path / "saved").glob("data-00001*")).unlink()
    with pytest.raises(DatasetError, match=r"data-00001-of-00003\.arrow: missing or damaged; copy the whole folder"):
        read(tmp_path / "saved")


def test_of_saved_splits_one_is_named(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list(tiny_pairs(2))
    DatasetDict(train_prefs=rows, test_prefs=rows).save_to_disk(tmp_path / "both")
    DatasetDict(train=rows).save_to_disk(tmp_path / "one")
    with pytest.raises(
        DatasetError, match=r"splits train_prefs, test_prefs; say which, such as path: .*both/train_prefs"
    ):
        read(tmp_path / "both")
    assert len(read(tmp_path / "both/train_prefs")) == len(read(tmp_path / "one")) == 2
    found = survey(files(tmp_path / "both/train_prefs"), ColumnsSpec())
    assert (found.splits, found.split) == (("train_prefs", "test_prefs"), "train_prefs")


@pytest.mark.parametrize("format_", ["file", "stream"])
def test_arrow_files_of_both_formats_are_read(tmp_path: Path, format_: str) -> None:
    table = pa.Table.from_pylist([{"prompt": f"p {i}", "x": i} for i in range(2500)])
    new = pa.ipc.new_file if format_ == "file" else pa.ipc.new_stream
    with new(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert len(read(tmp_path / "a.arrow", needs_pairs=False)) == count_rows(tmp_path / "a.arrow") == 2500


def test_columns_that_are_not_read_are_not_decoded(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"prompt": "p"}] * 3)
    broken = pa.StringArray.from_buffers(3, *pa.array([b"\xe9"] * 3, pa.binary()).buffers()[1:])
    table = table.append_column("note", broken).append_column("long", pa.array([[1]] * 3, pa.list_(pa.int64())))
    pq.write_table(table, tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet", needs_pairs=False)) == 3
    [batch] = ArrowPart(tmp_path / "a.parquet").batches(("prompt", "chosen"))
    assert batch.schema.names == ["prompt"]


def test_large_and_dictionary_texts_are_texts(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": pa.array(["Why?"] * 2, pa.large_string()),
            "chosen": pa.array(["a", "b"]).dictionary_encode(),
            "rejected": pa.array(["c", "d"], pa.string_view()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    assert [(e.chosen, e.rejected) for e in read(tmp_path / "a.parquet")] == [("a", "c"), ("b", "d")]


def test_messages_that_datasets_stores_as_json_are_messages(tmp_path: Path) -> None:
    from datasets import Dataset, Features, Json, List, Value

    rows = tiny_pairs(2)
    rows[0]["chosen"][1]["tool"], rows[1]["chosen"][1]["tool"] = 1, {"a": []}
    features = Features(
        {"prompt": Value("string"), "chosen": List(Json()), "rejected": {"role": Json(), "content": Json()}}
    )
    for row in rows:
        row["rejected"] = row["rejected"][1]
    rows = [{k: row[k] for k in features} for row in rows]
    for row in rows:
        row["chosen"] = row["chosen"][1:]
    dataset = Dataset.from_list(rows, features=features)
    dataset.save_to_disk(tmp_path / "saved")
    dataset.to_parquet(tmp_path / "a.parquet")
    for path in (tmp_path / "saved", tmp_path / "a.parquet"):
        assert [e.rejected for e in read(path)] == [row["rejected"]["content"] for row in rows]
        assert [e.chosen for e in read(path)] == [row["chosen"][0]["content"] for row in rows]
