"""A folder in memory: there while it is used, gone afterwards, and on the disk where memory has no room."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from xpo_ray import memory_folder as module
from xpo_ray.memory_folder import PREFIX, SHARED_MEMORY, memory_folder


def test_it_lies_in_shared_memory_and_is_gone_with_the_block() -> None:
    with memory_folder(1024) as folder:
        (folder / "tensors").write_bytes(b"1")
        assert folder.parent == SHARED_MEMORY
    assert not folder.exists()


def test_what_was_left_on_the_disk_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{PREFIX}left"
    left.mkdir()
    (left / "tensors").write_bytes(b"1")
    with memory_folder(2**60) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_where_memory_has_no_room_or_there_is_none_it_lies_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory_folder(2**60) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
    monkeypatch.setattr(module, "SHARED_MEMORY", Path("/nowhere"))
    with memory_folder(1) as folder:
        assert folder.parent == Path(tempfile.gettempdir())


def test_what_a_killed_process_left_is_gone_with_the_next_folder_and_what_a_living_one_holds_stays() -> None:
    code = (
        "import sys\n"
        "from xpo_ray.memory_folder import memory_folder\n"
        "with memory_folder(1) as folder:\n"
        "    (folder / 'tensors').write_bytes(b'1')\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        with memory_folder(1):
            assert left.exists()
        process.kill()
    assert left.exists()
    with memory_folder(1):
        assert not left.exists()
