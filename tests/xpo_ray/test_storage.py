"""Commits on a file system: made once, whole, checked when read, and seen by the attempts that may see them."""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pyarrow as pa
import pytest

from xpo_ray.errors import CorruptArtifact
from xpo_ray.storage import (
    Checkpoint,
    Commit,
    LocalStorage,
    lineage,
    read_json,
    replace_file,
    to_json,
    write_once,
)

KEY = "iteration-0001/scored/shard-00000"
NOTHING: dict[str, list[object]] = {"commits": [], "checkpoints": []}


def attempt(root: Path, number: int = 1, adopted: object = NOTHING) -> LocalStorage:
    storage = LocalStorage(root, number)
    write_once(storage.attempt_folder / "adopted.json", to_json(adopted))
    return storage


def table(*values: int) -> pa.Table:
    return pa.table({"value": list(values)})


def draft(name: str, iteration: int = 1, step: int = 0, parent: str | None = None) -> Checkpoint:
    return Checkpoint(name, "", iteration, step, 10 * iteration + step, parent, -1.5, ((1, 2, "hash"),), {})


def write_model(folder: Path, content: bytes = b"weights") -> None:
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(content)
    (folder / "trainer").mkdir()
    (folder / "trainer" / "position.json").write_text("{}")


def files_below(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def commit_of(storage: LocalStorage, key: str = KEY) -> Commit:
    commit = storage.find(key)
    assert commit is not None
    return commit


class Blind(LocalStorage):
    """A writer that looked before the other one had committed."""

    def find(self, key: str) -> Commit | None:  # noqa: ARG002
        return None


def test_a_published_table_is_found_and_read_back(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    assert storage.find(KEY) is None
    assert storage.publish_table(KEY, table(1, 2)).equals(table(1, 2))
    commit = commit_of(storage)
    assert (commit.key, commit.rows, commit.size) == (KEY, 2, (tmp_path / commit.path).stat().st_size)
    assert storage.read_table(commit).equals(table(1, 2))


def test_a_table_is_published_once_and_the_second_writer_gets_the_first_ones(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    storage.publish_table(KEY, table(1))
    before = files_below(tmp_path)
    assert storage.publish_table(KEY, table(2)).equals(table(1))
    assert files_below(tmp_path) == before


def test_a_writer_that_loses_the_race_drops_its_table_and_reads_the_winners(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    storage.publish_table(KEY, table(1))
    before = files_below(tmp_path)
    assert Blind(tmp_path, 1).publish_table(KEY, table(2)).equals(table(1))
    assert files_below(tmp_path) == before
    assert storage.read_table(commit_of(storage)).equals(table(1))


def test_two_writers_of_equal_tables_do_not_remove_each_others_data(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    storage.publish_table(KEY, table(1))
    assert Blind(tmp_path, 1).publish_table(KEY, table(1)).equals(table(1))
    assert storage.read_table(commit_of(storage)).equals(table(1))


def test_of_many_writers_at_once_one_wins_and_all_go_on_with_its_table(tmp_path: Path) -> None:
    attempt(tmp_path)
    barrier = Barrier(8)

    def write(value: int) -> pa.Table:
        barrier.wait()
        return LocalStorage(tmp_path, 1).publish_table(KEY, table(value))

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(write, range(8)))
    assert all(t.equals(got[0]) for t in got)
    assert LocalStorage(tmp_path, 1).read_table(commit_of(LocalStorage(tmp_path, 1))).equals(got[0])
    assert [Path(f).suffix for f in files_below(tmp_path / "attempts/0001/tables")] == [".parquet", ".json"]


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    storage.publish_table(KEY, table(1, 2, 3))
    path = tmp_path / commit_of(storage).path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifact, match="differs from what was committed"):
        storage.read_table(commit_of(storage))


def test_a_table_cut_short_or_gone_is_refused(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    storage.publish_table(KEY, table(1, 2, 3))
    commit = commit_of(storage)
    path = tmp_path / commit.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptArtifact, match=f"{commit.size - 1} bytes, {commit.size} expected"):
        storage.read_table(commit)
    path.unlink()
    with pytest.raises(CorruptArtifact, match="cannot be read"):
        storage.read_table(commit)


def die_at(root: Path, point: str, action: str) -> None:
    """Run an action on the storage of attempt 1 in a process that is killed at a crash point."""
    script = (
        "import sys; from pathlib import Path; from tests.xpo_ray.test_storage import *;"
        "storage = LocalStorage(Path(sys.argv[1]), 1);" + action
    )
    environment = {**os.environ, "XPO_CRASH_AT": f"{point}:1"}
    ended = subprocess.run([sys.executable, "-c", script, str(root)], env=environment, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["table.before_data", "table.after_data"])
def test_a_table_whose_writer_was_killed_is_never_seen(tmp_path: Path, point: str) -> None:
    storage = attempt(tmp_path)
    die_at(tmp_path, point, "storage.publish_table(KEY, table(1))")
    assert storage.find(KEY) is None
    assert storage.visible() == NOTHING
    assert storage.publish_table(KEY, table(2)).equals(table(2))
    storage.sweep()
    assert storage.read_table(commit_of(storage)).equals(table(2))
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_a_table_stands_once_its_sidecar_does_whatever_becomes_of_the_writer(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    die_at(tmp_path, "table.after_commit", "storage.publish_table(KEY, table(1))")
    assert storage.read_table(commit_of(storage)).equals(table(1))


@pytest.mark.parametrize("point", ["checkpoint.before_files", "checkpoint.after_files", "checkpoint.before_commit"])
def test_a_checkpoint_whose_writer_was_killed_is_never_seen_and_swept_at_the_end(tmp_path: Path, point: str) -> None:
    storage = attempt(tmp_path)
    die_at(tmp_path, point, "storage.publish_checkpoint(write_model, draft('one'))")
    assert storage.checkpoints() == []
    assert storage.visible() == NOTHING
    published = storage.publish_checkpoint(write_model, draft("one"))
    storage.sweep()
    assert storage.checkpoints() == [published]
    assert (storage.folder(published) / "model" / "model.safetensors").read_bytes() == b"weights"
    assert len([p for p in (storage.attempt_folder / "checkpoints").iterdir() if p.is_dir()]) == 1


def test_a_checkpoint_keeps_what_the_draft_says_and_the_size_and_hash_of_each_file(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    made = storage.publish_checkpoint(write_model, draft("one", step=3))
    assert {n: size for n, (size, _) in made.files.items()} == {
        "model/model.safetensors": 7,
        "trainer/position.json": 2,
    }
    assert replace(made, path="", files={}) == draft("one", step=3)
    assert storage.checkpoints() == [made]


def test_a_checkpoint_is_published_once(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    first = storage.publish_checkpoint(write_model, draft("one"))
    second = storage.publish_checkpoint(lambda folder: write_model(folder, b"others"), draft("one"))
    assert second == first
    assert (storage.folder(second) / "model" / "model.safetensors").read_bytes() == b"weights"


def test_the_writer_of_a_checkpoint_that_loses_the_race_takes_the_winners(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    winners: list[Checkpoint] = []

    def overtaken(folder: Path) -> None:
        write_model(folder, b"too late")
        winners.append(storage.publish_checkpoint(write_model, draft("one")))

    assert storage.publish_checkpoint(overtaken, draft("one")) == winners[0]
    assert (storage.folder(winners[0]) / "model" / "model.safetensors").read_bytes() == b"weights"
    assert len([p for p in (storage.attempt_folder / "checkpoints").iterdir() if p.is_dir()]) == 1


def test_a_checkpoint_that_cannot_be_written_is_not_published(tmp_path: Path) -> None:
    storage = attempt(tmp_path)

    def full_disk(folder: Path) -> None:
        write_model(folder)
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        storage.publish_checkpoint(full_disk, draft("one"))
    assert storage.checkpoints() == []


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_checkpoint_with_a_harmed_file_is_refused(tmp_path: Path, harm: str) -> None:
    storage = attempt(tmp_path)
    made = storage.publish_checkpoint(write_model, draft("one"))
    file = tmp_path / made.path / "model" / "model.safetensors"
    if harm == "remove":
        file.unlink()
    else:
        file.write_bytes(b"Weights" if harm == "flip" else b"weight")
    with pytest.raises(CorruptArtifact, match="missing or altered since checkpoint one"):
        storage.folder(made)


def test_checkpoints_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    for name, iteration, step in (("c", 1, 0), ("b", 0, 4), ("a", 0, 2), ("d", 1, 2)):
        storage.publish_checkpoint(write_model, draft(name, iteration, step))
    assert [c.name for c in storage.checkpoints()] == ["a", "b", "c", "d"]


def test_the_next_attempt_adopts_what_stands_and_goes_on_with_it(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    first.publish_table(KEY, table(1))
    one = first.publish_checkpoint(write_model, draft("one"))
    second = attempt(tmp_path, 2, first.visible())
    assert second.read_table(commit_of(second)).equals(table(1))
    assert second.publish_table(KEY, table(2)).equals(table(1))
    two = second.publish_checkpoint(write_model, draft("two", 2, parent="one"))
    assert second.checkpoints() == [one, two]
    assert not (second.attempt_folder / "tables").exists()


def test_an_adopted_checkpoint_is_not_published_again(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    one = first.publish_checkpoint(write_model, draft("one"))
    second = attempt(tmp_path, 2, first.visible())
    assert second.publish_checkpoint(lambda folder: write_model(folder, b"others"), draft("one")) == one
    assert second.checkpoints() == [one]


def test_what_is_adopted_is_handed_on_to_the_third_attempt(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    first.publish_table(KEY, table(1))
    first.publish_checkpoint(write_model, draft("one"))
    second = attempt(tmp_path, 2, first.visible())
    second.publish_table("other", table(2))
    third = attempt(tmp_path, 3, second.visible())
    assert [third.read_table(commit_of(third, k)).to_pydict()["value"] for k in (KEY, "other")] == [[1], [2]]
    assert [c.name for c in third.checkpoints()] == ["one"]


def test_what_an_older_attempt_writes_later_is_invisible(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    second = attempt(tmp_path, 2, first.visible())
    first.publish_table(KEY, table(1))
    first.publish_checkpoint(write_model, draft("one"))
    assert second.find(KEY) is None
    assert second.checkpoints() == []
    assert second.publish_table(KEY, table(2)).equals(table(2))
    assert first.read_table(commit_of(first)).equals(table(1))
    assert second.visible()["commits"][0]["path"].startswith("attempts/0002/")


def test_an_attempt_writes_under_its_own_folder_alone(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    first.publish_table("one", table(1))
    before = files_below(first.attempt_folder)
    second = attempt(tmp_path, 2, first.visible())
    second.publish_table("two", table(2))
    second.publish_checkpoint(write_model, draft("two"))
    assert files_below(first.attempt_folder) == before
    assert all(f.startswith("attempts/000") for f in files_below(tmp_path))


def test_a_dropped_checkpoint_frees_its_files_and_stays_in_the_lineage(tmp_path: Path) -> None:
    storage = attempt(tmp_path)
    one = storage.publish_checkpoint(write_model, draft("one", 0, 2))
    two = storage.publish_checkpoint(write_model, draft("two", 1, 0, parent="one"))
    storage.drop(one)
    assert not (tmp_path / one.path).exists()
    storage.sweep()
    assert lineage(storage.checkpoints(), two) == [one, two]


def test_the_lineage_follows_parents_not_order() -> None:
    a, b = draft("a"), draft("b", 2, parent="a")
    other, c = draft("other", 2, 5, parent="a"), draft("c", 3, parent="b")
    assert lineage([a, other, b, c], c) == [a, b, c]
    assert lineage([a], a) == [a]


def test_the_sweep_leaves_all_that_is_committed_in_every_attempt(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    first.publish_table(KEY, table(1))
    first.publish_table("evaluation-1a/shard-00000", table(2))
    first.publish_checkpoint(write_model, draft("one"))
    second = attempt(tmp_path, 2, first.visible())
    second.publish_checkpoint(write_model, draft("two", 2))
    before = files_below(tmp_path)
    second.sweep()
    assert files_below(tmp_path) == before


def test_storage_travels_without_the_list_that_it_adopted(tmp_path: Path) -> None:
    first = attempt(tmp_path)
    for i in range(50):
        first.publish_table(f"shard-{i}", table(i))
    second = attempt(tmp_path, 2, first.visible())
    assert second.find("shard-7") is not None
    sent = pickle.dumps(second)
    assert len(sent) < 500
    arrived = pickle.loads(sent)
    assert arrived.read_table(arrived.find("shard-7")).equals(table(7))


def test_a_file_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file"
    assert write_once(path, b"first")
    assert not write_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert files_below(tmp_path) == ["deep/er/file"]


def test_a_replaced_file_holds_the_new_content_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.json"
    replace_file(path, to_json({"b": 1, "a": "é"}))
    replace_file(path, to_json({"b": 2}))
    assert read_json(path) == {"b": 2}
    assert files_below(tmp_path) == ["folder/file.json"]
