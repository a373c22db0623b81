"""Which files a path names: splits that lie in one folder are not mixed."""

from pathlib import Path

import pytest

from xpo_ray.datasets.files import data_files, kind_of
from xpo_ray.errors import DatasetError


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        (["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"], False),
        (["train_prefs-0.parquet", "train_sft-0.parquet"], False),
        (["testimonials.parquet", "training.parquet"], False),
        (["a.parquet", "b.parquet"], False),
        (["train.parquet", "test.parquet"], True),
        (["train_prefs-00000-of-00001.parquet", "test_prefs-00000-of-00001.parquet"], True),
        (["Train.parquet", "dev.parquet"], True),
        (["valid.jsonl.gz", "test.jsonl.gz"], True),
    ],
)
def test_a_folder_whose_names_say_several_splits_is_refused(tmp_path: Path, names: list[str], refused: bool) -> None:
    for name in names:
        (tmp_path / name).touch()
    if not refused:
        assert [file.name for file in data_files(str(tmp_path))] == sorted(names)
        return
    with pytest.raises(DatasetError, match=r"files of several splits .* which would be read as one; say which"):
        data_files(str(tmp_path))
    assert data_files(tuple(str(tmp_path / name) for name in names)), "files that are named are what was meant"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.b.JSONL", "json"),
        ("a.ndjson.zst", "json"),
        ("a.tsv.gz", "csv"),
        ("a.csv.bz2", "csv"),
        ("x.y.arrow", "arrow"),
    ],
)
def test_the_extension_tells_the_kind_with_that_of_a_compression_behind_it(name: str, kind: str) -> None:
    assert kind_of(Path(name)) == kind
