import errno
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from tests.service.disks import SmallDisk, small_disk
from xpo_ray.errors import DiskFull, JudgeFailed
from xpo_ray.failures import lasting, run_error
from xpo_ray.full_disk import is_full, told
from xpo_ray.storage import Checkpoint, LocalStorage, replace_file, to_json, write_once

MIB = 2**20


def fill_a_device() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")


def fail_over_a_full_device() -> None:
    try:
        fill_a_device()
    except OSError as cause:
        raise JudgeFailed("the judge gave no scores") from cause


def draft(name: str) -> Checkpoint:
    return Checkpoint(name, "", 1, 0, 1, None, 0.0, (), {})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "small", 4) as made:
        yield made


def storage_on(disk: SmallDisk) -> LocalStorage:
    storage = LocalStorage(disk.folder, 1)
    write_once(storage.attempt_folder / "adopted.json", to_json({"commits": [], "checkpoints": []}))
    return storage


def test_what_fails_for_lack_of_room_raises_one_error_that_says_where() -> None:
    with pytest.raises(DiskFull, match=r"the disk of /dev is full: .*No space left.*make room"), told(Path("/dev")):
        fill_a_device()


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(PermissionError), told(Path("/dev")):
        raise PermissionError(errno.EACCES, "no")
    assert not is_full(OSError(errno.EIO, "broken"))


def test_a_full_disk_is_found_behind_the_error_that_it_led_to() -> None:
    with pytest.raises(JudgeFailed) as caught:
        fail_over_a_full_device()
    told_of = run_error(caught.value)
    assert is_full(caught.value)
    assert (told_of.code, told_of.kind, lasting(caught.value)) == ("disk_full", "system", False)
    assert lasting(JudgeFailed("for another reason"))


def test_a_file_that_finds_no_room_leaves_nothing_and_the_old_one_stays(disk: SmallDisk) -> None:
    kept = disk.folder / "kept.json"
    replace_file(kept, b"old")
    disk.fill()
    for write in (write_once, replace_file):
        with pytest.raises(DiskFull):
            write(disk.folder / "new.bin" if write is write_once else kept, b"x" * MIB)
    assert kept.read_bytes() == b"old"
    assert sorted(p.name for p in disk.folder.iterdir()) == ["filler", "kept.json"]


def test_a_table_that_finds_no_room_is_not_committed_and_is_once_there_is_some(disk: SmallDisk) -> None:
    storage, table = storage_on(disk), pa.table({"x": list(range(1000))})
    disk.fill()
    with pytest.raises(DiskFull):
        storage.publish_table("iteration-0001/drawn/shard-00000", table)
    assert storage.find("iteration-0001/drawn/shard-00000") is None
    disk.empty()
    storage.publish_table("iteration-0001/drawn/shard-00000", table)
    commit = storage.find("iteration-0001/drawn/shard-00000")
    assert commit is not None
    assert storage.read_table(commit) == table


def test_the_reserve_is_left_to_others(disk: SmallDisk) -> None:
    storage_on(disk)
    storage, table = LocalStorage(disk.folder, 1, reserve_bytes=3 * MIB), pa.table({"x": list(range(1000))})
    disk.fill(leaving=2 * MIB)
    with pytest.raises(DiskFull, match="2 MiB free, 0 MiB are wanted and 3 MiB are the service's own"):
        storage.publish_table("iteration-0001/drawn/shard-00000", table)
    assert list(disk.folder.rglob("*.parquet")) == []
    disk.empty()
    storage.publish_table("iteration-0001/drawn/shard-00000", table)
    assert pickle.loads(pickle.dumps(storage)).reserve_bytes == 3 * MIB


def test_a_checkpoint_that_finds_no_room_leaves_its_place_and_the_one_before(disk: SmallDisk) -> None:
    storage = storage_on(disk)

    def of_mib(mib: int) -> Callable[[Path], None]:
        return lambda folder: save_file({"w": torch.zeros(mib * MIB // 4)}, folder / "model.safetensors")

    first = storage.publish_checkpoint(of_mib(1), draft("iteration-0001-step-000000"))
    before = disk.free
    with pytest.raises(DiskFull):
        storage.publish_checkpoint(of_mib(4), draft("iteration-0002-step-000000"))
    assert disk.free == before
    assert storage.checkpoints() == [first]
    assert storage.folder(first).is_dir()
