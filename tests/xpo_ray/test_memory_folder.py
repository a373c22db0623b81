"""A folder in memory: there while it is used, gone afterwards, and on the disk where memory has no room."""

import tempfile
from pathlib import Path

import pytest

from xpo_ray import memory_folder as module
from xpo_ray.memory_folder import SHARED_MEMORY, memory_folder


def test_it_lies_in_shared_memory_and_is_gone_with_the_block() -> None:
    with memory_folder(1024) as folder:
        (folder / "tensors").write_bytes(b"1")
        assert folder.parent == SHARED_MEMORY
    assert not folder.exists()


def test_where_memory_has_no_room_or_there_is_none_it_lies_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with memory_folder(2**60) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
    monkeypatch.setattr(module, "SHARED_MEMORY", Path("/nowhere"))
    with memory_folder(1) as folder:
        assert folder.parent == Path(tempfile.gettempdir())
