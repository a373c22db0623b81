"""Where committed work lies (DESIGN §4.11–4.12). Tables and checkpoints are published once, whole, and never change.

A commit is data under a name of its own plus a sidecar with its size and sha256; the sidecar is made with create-if-absent
and is the one moment of commitment. Attempt n writes only under attempts/<n>/ and sees, beside its own commits, the list
that it adopted at its start. Role actors and the driver call this; a service may put another Storage behind it.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from xpo_ray.crashpoints import crash_point
from xpo_ray.errors import CorruptArtifact, DiskFull
from xpo_ray.full_disk import told


@dataclass(frozen=True)
class Commit:
    """A published table: where it lies under the run's folder, and what its bytes must be."""

    key: str
    path: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint folder: `model/` is a Hugging Face folder, `trainer/` the rest of the training state."""

    name: str
    path: str
    iteration: int
    """Iterations completed, or the one under way when `step` is not 0."""
    step: int
    """Steps done within iteration `iteration + 1`; 0 at the border of an iteration."""
    total_steps: int
    """Steps applied since the initial model."""
    parent: str | None
    canary: float
    """Log-prob per token of the canary text under these weights; an engine that serves them must give the same."""
    ledger: tuple[tuple[int, int, str], ...]
    """(iteration, step, hash of pairs) of each step since the parent."""
    files: dict[str, tuple[int, str]]
    """Size and sha256 of each file, by path within the folder."""


class Storage(Protocol):
    """Publishes and reads; every method may be called from any process of the attempt."""

    def publish_table(self, key: str, table: pa.Table) -> pa.Table: ...

    def find(self, key: str) -> Commit | None: ...

    def read_table(self, commit: Commit) -> pa.Table: ...

    def publish_checkpoint(self, write: Callable[[Path], None], checkpoint: Checkpoint) -> Checkpoint: ...

    def checkpoints(self) -> list[Checkpoint]: ...

    def folder(self, checkpoint: Checkpoint) -> Path: ...


class LocalStorage:
    """Storage on a file system that all processes of the run see."""

    def __init__(self, root: Path, attempt: int, reserve_bytes: int = 0) -> None:
        """A table or checkpoint that would leave fewer free bytes than the reserve on the disk is refused with DiskFull."""
        self.root = root
        self.attempt = attempt
        self.reserve_bytes = reserve_bytes

    def __reduce__(self) -> tuple[type["LocalStorage"], tuple[Path, int, int]]:
        """Travels to actors and tasks without the adoption list that it may have read."""
        return LocalStorage, (self.root, self.attempt, self.reserve_bytes)

    @property
    def attempt_folder(self) -> Path:
        return self.root / "attempts" / f"{self.attempt:04d}"

    @cached_property
    def _adopted(self) -> tuple[dict[str, Commit], dict[str, Checkpoint]]:
        listed = read_json(self.attempt_folder / "adopted.json")
        commits = {c["key"]: Commit(**c) for c in listed["commits"]}
        return commits, {c["name"]: checkpoint_from_json(c) for c in listed["checkpoints"]}

    def publish_table(self, key: str, table: pa.Table) -> pa.Table:
        """Publish a table under a key; returns what stands there: this table, or the one that was there before."""
        if (earlier := self.find(key)) is not None:
            return self.read_table(earlier)
        crash_point("table.before_data")
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        self._check_room(len(data))
        sha256 = hashlib.sha256(data).hexdigest()
        sidecar = self._sidecar(key)
        target = sidecar.with_name(f"{sidecar.stem}.{sha256[:16]}.parquet")
        write_once(target, data)
        crash_point("table.after_data")
        commit = Commit(key, str(target.relative_to(self.root)), len(data), sha256, table.num_rows)
        won = write_once(sidecar, to_json(asdict(commit)))
        crash_point("table.after_commit")
        if won:
            return table
        winner = Commit(**read_json(sidecar))
        if winner.path != commit.path:
            target.unlink(missing_ok=True)
        return self.read_table(winner)

    def find(self, key: str) -> Commit | None:
        """The commit under a key, of this attempt or adopted."""
        if key in self._adopted[0]:
            return self._adopted[0][key]
        try:
            return Commit(**read_json(self._sidecar(key)))
        except FileNotFoundError:
            return None

    def read_table(self, commit: Commit) -> pa.Table:
        """Read a committed table. Raises CorruptArtifact where its bytes are not those that were committed."""
        path = self.root / commit.path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptArtifact(f"{path}: a committed table cannot be read: {error}") from error
        if len(data) != commit.size or hashlib.sha256(data).hexdigest() != commit.sha256:
            raise CorruptArtifact(
                f"{path}: differs from what was committed ({len(data)} bytes, {commit.size} expected)"
            )
        return pq.read_table(pa.BufferReader(data))

    def publish_checkpoint(self, write: Callable[[Path], None], checkpoint: Checkpoint) -> Checkpoint:
        """Write a checkpoint folder aside, then publish it; returns the one that stands under the name."""
        folder = self.attempt_folder / "checkpoints"
        sidecar = folder / f"{checkpoint.name}.json"
        if checkpoint.name in self._adopted[1]:
            return self._adopted[1][checkpoint.name]
        if sidecar.exists():
            return checkpoint_from_json(read_json(sidecar))
        if self.reserve_bytes:
            earlier = (sum(size for size, _ in c.files.values()) for c in self.checkpoints())
            self._check_room(max(earlier, default=0))
        aside = folder / f".writing-{checkpoint.name}-{secrets.token_hex(4)}"
        files = _write_folder(aside, write)
        target = folder / f"{checkpoint.name}.{secrets.token_hex(4)}"
        aside.rename(target)
        _sync_folder(folder)
        crash_point("checkpoint.before_commit")
        mine = Checkpoint(**{**checkpoint.__dict__, "path": str(target.relative_to(self.root)), "files": files})
        try:
            won = write_once(sidecar, to_json(asdict(mine)))
        except DiskFull:
            if not sidecar.exists():  # or it is committed, whatever became of its last flush
                shutil.rmtree(target, ignore_errors=True)
            raise
        crash_point("checkpoint.after_commit")
        if won:
            return mine
        shutil.rmtree(target)
        return checkpoint_from_json(read_json(sidecar))

    def checkpoints(self) -> list[Checkpoint]:
        """All published checkpoints that this attempt sees, by steps applied."""
        own = (checkpoint_from_json(read_json(p)) for p in (self.attempt_folder / "checkpoints").glob("*.json"))
        return sorted([*self._adopted[1].values(), *own], key=lambda c: (c.iteration, c.step))

    def folder(self, checkpoint: Checkpoint) -> Path:
        """The folder of a checkpoint after a check of its files. Raises CorruptArtifact."""
        folder = self.root / checkpoint.path
        for name, (size, sha256) in checkpoint.files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != size or _sha256(file) != sha256:
                raise CorruptArtifact(f"{file}: missing or altered since checkpoint {checkpoint.name} was published")
        return folder

    def drop(self, checkpoint: Checkpoint) -> None:
        """Free the files of a checkpoint that no resume will read; its sidecar stays, as a part of the lineage."""
        shutil.rmtree(self.root / checkpoint.path, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed processes left uncommitted, in this attempt and those before it; only for a run that has ended."""
        attempts = [p for p in (self.root / "attempts").iterdir() if p.name.isdigit() and int(p.name) <= self.attempt]
        for folder in (p for each in attempts for p in each.glob("checkpoints")):
            committed = {self.root / read_json(sidecar)["path"] for sidecar in folder.glob("*.json")}
            for uncommitted in {p for p in folder.iterdir() if p.is_dir()} - committed:
                shutil.rmtree(uncommitted, ignore_errors=True)
        for data in (p for each in attempts for p in each.glob("tables/**/*.parquet")):
            sidecar = data.with_name(f"{data.name.rsplit('.', 2)[0]}.json")
            if not sidecar.exists() or self.root / read_json(sidecar)["path"] != data:
                data.unlink(missing_ok=True)
        for aside in (p for each in attempts for p in each.rglob(".*.tmp")):
            aside.unlink(missing_ok=True)

    def visible(self) -> dict[str, Any]:
        """Everything that this attempt sees, as the next attempt's adoption list."""
        commits = dict(self._adopted[0])
        for path in self.attempt_folder.glob("tables/**/*.json"):
            commit = Commit(**read_json(path))
            commits.setdefault(commit.key, commit)
        return {
            "commits": [asdict(c) for _, c in sorted(commits.items())],
            "checkpoints": [asdict(c) for c in self.checkpoints()],
        }

    def _check_room(self, wanted: int) -> None:
        """Raises DiskFull where so many bytes more would eat into the reserve."""
        if not self.reserve_bytes:
            return
        free = shutil.disk_usage(self.root).free
        if free - wanted < self.reserve_bytes:
            raise DiskFull(
                f"the disk of {self.root} has {free >> 20} MiB free, {wanted >> 20} MiB are wanted and "
                f"{self.reserve_bytes >> 20} MiB are the service's own: make room, and the run goes on from what is committed"
            )

    def _sidecar(self, key: str) -> Path:
        return self.attempt_folder / "tables" / f"{key}.json"


def checkpoint_from_json(raw: dict[str, Any]) -> Checkpoint:
    """A checkpoint from its sidecar."""
    ledger = tuple((int(i), int(s), str(h)) for i, s, h in raw["ledger"])
    files = {str(k): (int(v[0]), str(v[1])) for k, v in raw["files"].items()}
    return Checkpoint(**{**raw, "ledger": ledger, "files": files})


def lineage(checkpoints: Iterable[Checkpoint], last: Checkpoint) -> list[Checkpoint]:
    """The chain of checkpoints that ends in `last`, oldest first."""
    by_name = {c.name: c for c in checkpoints}
    chain = [last]
    while chain[-1].parent is not None:
        chain.append(by_name[chain[-1].parent])
    return chain[::-1]


def to_json(value: Any) -> bytes:
    """Readable canonical JSON."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def write_once(path: Path, data: bytes) -> bool:
    """Create a file with this content, durably and whole, unless it is there already; says whether it did. Raises DiskFull."""
    with told(path.parent):
        aside = _written_aside(path, data)
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        _sync_folder(path.parent)
        return True


def replace_file(path: Path, data: bytes) -> None:
    """Put this content in the place of a file, durably: readers see the old or the new one. Raises DiskFull."""
    with told(path.parent):
        _written_aside(path, data).replace(path)
        _sync_folder(path.parent)


def _written_aside(path: Path, data: bytes) -> Path:
    """A hidden file beside `path` that holds this content, durably; none where that fails."""
    _make_folder(path.parent)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _write_and_sync(aside, data)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _write_folder(aside: Path, write: Callable[[Path], None]) -> dict[str, tuple[int, str]]:
    """Let a folder be written, durably; returns size and sha256 of its files. Nothing stays of one that fails."""
    try:
        with told(aside.parent):
            _make_folder(aside)
            crash_point("checkpoint.before_files")
            write(aside)
            crash_point("checkpoint.after_files")
            files = {str(p.relative_to(aside)): _sync_and_hash(p) for p in sorted(aside.rglob("*")) if p.is_file()}
            for inner in [aside, *(p for p in aside.rglob("*") if p.is_dir())]:
                _sync_folder(inner)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return files


def _write_and_sync(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents, durably: a commit within must not vanish with its folder."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_and_hash(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
