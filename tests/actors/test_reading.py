"""Committed tables in the object store; a read that never ends is ended, and begun anew as often as an actor would be."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.actors.conftest import Heard
from xpo_ray.actors import watchdog
from xpo_ray.actors.reading import Reader
from xpo_ray.actors.watchdog import Deadlines
from xpo_ray.attempts import open_attempt
from xpo_ray.errors import ActorLost, CorruptArtifact
from xpo_ray.reporting import ActorReplaced
from xpo_ray.storage import Commit, LocalStorage

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("cluster")]
TABLE = pa.table({"row": [1, 2, 3]})


@dataclass(frozen=True)
class StandsStill:
    """A storage whose folder does not answer: never, or only the first time."""

    storage: LocalStorage
    once: Path | None = None

    def read_table(self, commit: Commit) -> pa.Table:
        if self.once is not None:
            try:
                os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return self.storage.read_table(commit)
        time.sleep(3600)
        raise AssertionError("an hour has gone by")


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    attempt = open_attempt(tmp_path / "run", {}, {}, {}, resume=False)
    attempt.storage.publish_table("key", TABLE)
    attempt.close()
    return attempt.storage


@pytest.fixture
def commit(storage: LocalStorage) -> Commit:
    found = storage.find("key")
    assert found is not None
    return found


def reader(storage: Any, heard: Heard, floor_s: float = 600.0, max_restarts: int = 3) -> Reader:
    return Reader(storage, heard, Deadlines(floor_s), max_restarts)


def test_a_committed_table_is_read_by_a_task_and_a_damaged_one_is_refused(
    storage: LocalStorage, commit: Commit
) -> None:
    async def read() -> pa.Table:
        return await (await reader(storage, Heard()).read(commit))

    assert asyncio.run(read()).equals(TABLE)
    (storage.root / commit.path).write_bytes(b"torn")
    with pytest.raises(CorruptArtifact):
        asyncio.run(read())


@pytest.mark.long
def test_a_read_that_hangs_is_begun_anew_and_one_that_always_hangs_stops_the_run(
    storage: LocalStorage, commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "AT_FIRST", 1.0)
    heard, unheard = Heard(), Heard()

    async def both() -> tuple[pa.Table, BaseException | None]:
        mends = reader(StandsStill(storage, tmp_path / "once"), heard, floor_s=8.0)
        never = reader(StandsStill(storage), unheard, floor_s=8.0, max_restarts=0)
        ref, lost = await asyncio.gather(mends.read(commit), never.read(commit), return_exceptions=True)
        return await ref, lost

    table, lost = asyncio.run(both())
    assert table.equals(TABLE)
    assert [e.role for e in heard.of(ActorReplaced)][:1] == ["reader"]
    assert isinstance(lost, ActorLost)
    assert "does not answer, tried 1 times" in str(lost)
    assert unheard.events == []
