"""The folder of a run and its attempts (DESIGN §4.12, 4.14): lock, identity, adoption.

    <output>/run.json           identity and spec of the run; made once
    <output>/run.lock           held by the living driver, released by the kernel when it dies
    <output>/attempts/0001/     adopted.json, attempt.json, journal.jsonl, ledger.jsonl, tables/, checkpoints/

The foreground driver opens an attempt before its first write; nothing is written for input that was refused.
"""

import fcntl
import os
import platform
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from xpo_ray.crashpoints import crash_point
from xpo_ray.errors import OutputError, ResumeError
from xpo_ray.spec.loading import digest
from xpo_ray.storage import LocalStorage, read_json, replace_file, to_json, write_once

VERSIONED = ("xpo-ray", "torch", "transformers", "ray", "pyarrow", "numpy", "safetensors")


@dataclass
class Attempt:
    """One try at a run by one driver; holds the lock of the output folder as long as it lives."""

    root: Path
    run_id: str
    number: int
    storage: LocalStorage
    lock: IO[bytes] | None
    """None in the service, where the claim of the attempt is the fence."""

    @property
    def folder(self) -> Path:
        return self.storage.attempt_folder

    @property
    def result_folder(self) -> Path:
        """Where the result goes: the run's folder, or in the service the attempt's own, so that no other can write it."""
        return self.root if self.lock is not None else self.folder

    def close(self) -> None:
        """Release the folder."""
        if self.lock is not None:
            self.lock.close()


def open_attempt(
    root: Path,
    identity: dict[str, Any],
    spec: dict[str, Any],
    record: dict[str, Any],
    *,
    resume: bool,
    remarks: Sequence[str] = (),
) -> Attempt:
    """Start a new run in `root`, or with `resume` the next attempt at the run that lies there.

    `record` is what else the attempt's record should keep, for the question whether attempts computed alike.
    Raises OutputError where the folder is in use or holds something else, ResumeError where the run there is another one.
    """
    check_output(root, identity, resume=resume, remarks=remarks)
    root.mkdir(parents=True, exist_ok=True)
    lock = _lock(root)
    try:
        check_output(
            root, identity, resume=resume, remarks=remarks
        )  # another driver may have begun, and ended, before the lock was ours
        run_id = _enter_run(root, identity, spec)
        storage = _enter_attempt(root, spec, record)
    except BaseException:
        lock.close()
        raise
    return Attempt(root, run_id, storage.attempt, storage, lock)


def open_claimed(
    storage: LocalStorage,
    run_id: str,
    identity: dict[str, Any],
    spec: dict[str, Any],
    record: dict[str, Any],
    remarks: Sequence[str] = (),
) -> Attempt:
    """Enter the attempt that the service has granted; its number comes from there, and no lock is taken.

    Raises ResumeError where an earlier attempt of the run had other data, another model or another judge before it.
    """
    root, number = storage.root, storage.attempt
    for earlier in range(number - 1, 0, -1):
        before = root / "attempts" / f"{earlier:04d}" / "attempt.json"
        if not before.exists():
            continue
        if changes := _changes(read_json(before).get("identity", identity), identity):
            listed = "\n".join(f"  {c}" for c in (*changes, *remarks))
            raise ResumeError(f"what decides the result has changed since attempt {earlier}:\n{listed}")
        break
    write_once(storage.attempt_folder / "adopted.json", to_json(_adoption(root, number)))
    crash_point("attempt.after_adoption")
    kept = {**_attempt_record(number, spec, record), "identity": identity}
    replace_file(storage.attempt_folder / "attempt.json", to_json(kept))
    return Attempt(root, run_id, number, storage, None)


def _enter_run(root: Path, identity: dict[str, Any], spec: dict[str, Any]) -> str:
    """The id of the run in the folder, which is made where there is none."""
    run_file = root / "run.json"
    write_once(run_file, to_json(_run_record(identity, spec)))
    crash_point("attempt.after_folder")
    run_id: str = read_json(run_file)["run_id"]
    return run_id


def _enter_attempt(root: Path, spec: dict[str, Any], record: dict[str, Any]) -> LocalStorage:
    """A number of its own, the list of what is adopted, and the attempt's record."""
    number = _next_number(root)
    storage = LocalStorage(root, number)
    write_once(storage.attempt_folder / "adopted.json", to_json(_adoption(root, number)))
    crash_point("attempt.after_adoption")
    replace_file(storage.attempt_folder / "attempt.json", to_json(_attempt_record(number, spec, record)))
    return storage


def check_output(root: Path, identity: dict[str, Any] | None, *, resume: bool, remarks: Sequence[str] = ()) -> None:
    """Refuse an output folder that this run may not use; writes nothing. Without an identity only the folder is looked at.
    `remarks` say more of why the identity may differ."""
    run_file = root / "run.json"
    if not run_file.exists():
        if root.exists() and (not root.is_dir() or any(not _begun(p) for p in root.iterdir())):
            raise OutputError(f"output.path {root} is not empty and holds no run; name an empty or new folder")
        return
    if not resume:
        raise OutputError(
            f"output.path {root} holds another run; add --resume to go on with it, or name another folder"
        )
    if identity is not None and (changes := _changes(read_json(run_file)["identity"], identity)):
        listed = "\n".join(f"  {c}" for c in (*changes, *remarks))
        raise ResumeError(f"{root} holds a run with other settings; what decides its result has changed:\n{listed}")


def _begun(path: Path) -> bool:
    """What a driver leaves that was killed before it had made run.json."""
    return path.name == "run.lock" or (path.name.startswith(".run.json.") and path.suffix == ".tmp")


def recorded_seed(root: Path) -> int | None:
    """The seed of the run in a folder, for a resume whose spec leaves it open."""
    run_file = root / "run.json"
    if not run_file.exists():
        return None
    seed: int = read_json(run_file)["spec"]["seed"]
    return seed


def _run_record(identity: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": f"run_{secrets.token_hex(6)}",
        "created": time.time(),
        "identity": identity,
        "identity_sha256": digest(identity),
        "spec": spec,
    }


def _attempt_record(number: int, spec: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    versions = {name: version(name) for name in VERSIONED}
    machine = {
        "host": platform.node(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    head = {"attempt": number, "pid": os.getpid(), "started": time.time(), "versions": versions}
    return {**head, "machine": machine, "spec": spec, **record}


def processor() -> str:
    """Name of the processor: matrix products of different ones differ in their last bits."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # no Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _adoption(root: Path, number: int) -> dict[str, Any]:
    """What the last attempt with an adoption list sees now; an attempt that died before it had one counts for nothing."""
    for earlier in range(number - 1, 0, -1):
        storage = LocalStorage(root, earlier)
        if (storage.attempt_folder / "adopted.json").exists():
            return storage.visible()
    return {"commits": [], "checkpoints": []}


def _next_number(root: Path) -> int:
    folder = root / "attempts"
    folder.mkdir(exist_ok=True)
    number = max((int(p.name) for p in folder.iterdir() if p.name.isdigit()), default=0)
    while True:
        number += 1
        try:
            (folder / f"{number:04d}").mkdir()
        except FileExistsError:
            continue
        return number


def _lock(root: Path) -> IO[bytes]:
    file = (root / "run.lock").open("a+b")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip() or "another process"
        file.close()
        raise OutputError(f"output.path {root} is in use by {holder}; wait for it or end it") from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
    file.flush()
    return file


def _changes(old: Any, new: Any, where: str = "") -> list[str]:
    """One line for each leaf that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [c for k in keys for c in _changes(old.get(k), new.get(k), f"{where}.{k}" if where else k)]
    name = where.removeprefix("spec.").replace("fingerprints.", "content of the ")
    was, now = ("unset" if value is None else repr(value) for value in (old, new))
    return [] if old == new else [f"{name}: was {was}, is {now}"]
