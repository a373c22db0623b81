"""Whether there is room for more: free disk, the service's quota, the quota of a key.

Uploads ask before and while they write. Sizes of run folders are measured at most every half minute.
"""

import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Dataset, Run
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services

MIB, GIB = 2**20, 2**30
MEASURED_FOR_S = 30.0
_measured: dict[Path, tuple[float, int]] = {}
_lock = Lock()


def check_disk(services: Services, wanted: int = 0) -> None:
    """Raises Refusal where so many bytes more would leave less than the free space that must remain."""
    free = shutil.disk_usage(services.storage).free
    floor = int(services.settings.disk_floor_mib * 2**20)
    if free - wanted < floor:
        raise Refusal(
            507,
            "storage_full",
            f"{free / GIB:.2f} GiB are free, {wanted / GIB:.2f} GiB are wanted and {floor / GIB:.2f} GiB must remain; "
            "delete runs or datasets",
        )


def disk_fault(services: Services) -> str | None:
    """Whether less than the floor is free under the storage folder, in words; None where there is room."""
    free = shutil.disk_usage(services.storage).free / MIB
    floor = services.settings.disk_floor_mib
    return None if free >= floor else f"{free:.0f} MiB free under the storage folder, the floor is {floor:.0f}"


def check_quota(services: Services, caller: Principal, wanted: int = 0) -> None:
    """Raises Refusal where so many bytes more would exceed the service's quota or the caller's."""
    whole, own = services.settings.storage_quota_gib, caller.quotas.storage_gib
    if whole is None and own is None:
        return
    with services.database.read() as session:
        if whole is not None:
            _check(used_bytes(services, session, None) + wanted, whole, "the service's quota", 507, "storage_full")
        if own is not None:
            used = used_bytes(services, session, caller.key_id)
            _check(used + wanted, own, "the quota of this key", 429, "quota_exceeded")


def used_bytes(services: Services, session: Session, owner: str | None) -> int:
    """Bytes of the datasets and runs of an owner, or of all."""
    datasets = select(func.coalesce(func.sum(Dataset.bytes), 0)).where(Dataset.kind == "uploaded")
    runs = select(Run.id)
    if owner is not None:
        datasets, runs = datasets.where(Dataset.owner == owner), runs.where(Run.owner == owner)
    return int(session.scalar(datasets) or 0) + _folders(services.run_folder(r) for r in session.scalars(runs))


def _check(used: int, quota_gib: float, whose: str, status: int, code: str) -> None:
    if used > quota_gib * GIB:
        detail = f"{used / GIB:.2f} GiB would be used, {whose} is {quota_gib:g} GiB; delete runs or datasets"
        raise Refusal(status, code, detail, headers={"Retry-After": "60"} if status == 429 else None)


def _folders(folders: Iterable[Path]) -> int:
    return sum(_folder(folder) for folder in folders)


def _folder(folder: Path) -> int:
    now = time.monotonic()
    with _lock:
        at, size = _measured.get(folder, (-MEASURED_FOR_S, 0))
    if now - at < MEASURED_FOR_S:
        return size
    size = tree_bytes(folder)
    with _lock:
        _measured[folder] = now, size
    return size


def tree_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; hard links count once."""
    seen: set[tuple[int, int]] = set()
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(path, name))
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                size += status.st_size
    return size
