"""The file behind a prompt table: what is written is read, nothing stays in the heap, and no name is left behind."""

import resource
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from tests import tables
from xpo_ray.errors import OutputError
from xpo_ray.prompt_file import BATCH_ROWS, PromptWriter, mapped
from xpo_ray.shards import PROMPTS


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_chunks_come_back_as_one_table_and_the_file_has_no_name(temporary: Path) -> None:
    first, second = tables.prompts([[1, 2], [3]], pairs=True), tables.prompts([[4, 5]], first_row=2)
    with PromptWriter() as writer:
        writer.add(first)
        writer.add(second)
        table = writer.finish()
    assert list(temporary.iterdir()) == []
    assert table.schema == PROMPTS
    assert table.to_pylist() == [*first.to_pylist(), *second.to_pylist()]


def test_batches_are_written_as_they_fill(temporary: Path) -> None:
    chunk = tables.prompts([[1, 2]] * (BATCH_ROWS // 2))
    with PromptWriter() as writer:
        for _ in range(5):
            writer.add(chunk)
        (file,) = temporary.iterdir()
        assert file.stat().st_size > 3 * chunk.nbytes
        table = writer.finish()
    assert [b.num_rows for b in table.to_batches()] == [BATCH_ROWS, BATCH_ROWS, BATCH_ROWS // 2]


def test_a_mapped_table_takes_no_memory_of_arrow(temporary: Path) -> None:
    file = temporary / "table.arrow"
    written = tables.prompts([[i % 7] * 20 for i in range(5000)])
    with pa.ipc.new_file(file, PROMPTS) as writer:
        writer.write_table(written)
    before = pa.total_allocated_bytes()
    table = mapped(file)
    assert table.num_rows == 5000
    assert pa.total_allocated_bytes() - before < 10_000 < table.nbytes


def test_a_fault_while_tokenising_leaves_no_file(temporary: Path) -> None:
    def tokenise_badly() -> None:
        with PromptWriter() as writer:
            writer.add(pa.table({"row": [1]}))
            writer.finish()

    with pytest.raises(pa.ArrowInvalid):
        tokenise_badly()
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_told_with_the_folder_and_the_remedy(temporary: Path) -> None:
    def tokenise() -> None:
        with PromptWriter() as writer:
            for _ in range(3):
                writer.add(tables.prompts([[1, 2]] * BATCH_ROWS))
            writer.finish()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(
            OutputError, match=r"the tokenised prompts cannot be written there: .*; free space, or name"
        ):
            tokenise()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(temporary.iterdir()) == []
