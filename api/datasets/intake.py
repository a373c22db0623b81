"""How a dataset comes in: files first, then the row, so that a crash between leaves a folder without a row and never the
other way round. Until the row is there the folder holds a mark; marked folders that have no row are swept when they are old.
A folder without a mark is never swept, whatever database the service was started on.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.connection import joined
from xpo_ray.api.database.tables import Dataset
from xpo_ray.api.datasets.checking import checked
from xpo_ray.api.datasets.findings import Findings
from xpo_ray.api.datasets.roots import allowed_repository, below_roots
from xpo_ray.api.datasets.store import row_of, view
from xpo_ray.api.datasets.uploading import Upload
from xpo_ray.api.idempotency import Idempotency, replayed
from xpo_ray.api.ids import new_id
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.datasets.files import data_files
from xpo_ray.errors import DatasetError
from xpo_ray.storage import replace_file
from xpo_ray.wire.data import DatasetPreview, DatasetView, NewDataset, RegisteredFiles, RegisteredHub

INCOMING = ".incoming-"
MARK = ".unrecorded"
PREVIEW = "preview.json"
ORPHAN_AFTER = timedelta(hours=1)
"""Nothing is written for so long by an upload under way: reading it may take a quarter of it."""


@contextmanager
def incoming(services: Services, dataset_id: str) -> Iterator[Path]:
    """A folder for files on their way in; whatever is still there at the end is removed."""
    folder = services.storage / "datasets" / f"{INCOMING}{dataset_id}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_upload(
    services: Services, caller: Principal, once: Idempotency, dataset_id: str, name: str, upload: Upload
) -> JSONResponse:
    """Check the uploaded files, put them in place, and make the row. Raises Refusal."""
    found = checked({"kind": "files", "path": [str(p) for p in upload.files]}, upload.folder, str(upload.folder))
    target = services.dataset_folder(dataset_id)
    source = {"kind": "files", "path": [str(target / p.name) for p in upload.files]}
    row = row_of(dataset_id, caller.key_id, name, "uploaded", source, found, services.clock())
    return _publish(services, caller, once, upload.folder, row, found)


def register(services: Services, caller: Principal, once: Idempotency, asked: NewDataset) -> JSONResponse:
    """Check files or a hub dataset that the operator allows, and make the row. Raises Refusal."""
    source = _allowed(services, asked.source)
    dataset_id = new_id("ds")
    with incoming(services, dataset_id) as folder:
        found = checked(source, folder, str(folder))
        row = row_of(dataset_id, caller.key_id, asked.name, asked.source.kind, source, found, services.clock())
        return _publish(services, caller, once, folder, row, found)


def preview_of(services: Services, dataset_id: str, limit: int) -> DatasetPreview:
    """The first rows, as they were when the dataset came in."""
    kept = DatasetPreview.model_validate_json((services.dataset_folder(dataset_id) / PREVIEW).read_bytes())
    return DatasetPreview(rows=kept.rows[:limit])


def mark(services: Services, dataset_id: str) -> None:
    """Before the row goes: from then on the folder may be swept."""
    folder = services.dataset_folder(dataset_id)
    if folder.is_dir():
        (folder / MARK).touch()


def remove_files(services: Services, dataset_id: str) -> None:
    """Remove what lies in storage for a dataset whose row is gone; registered files stay where they are."""
    shutil.rmtree(services.dataset_folder(dataset_id), ignore_errors=True)


def sweep(services: Services) -> list[str]:
    """Remove what a crash left: old folders without a row. Another process may be taking an upload in: its files are young."""
    folder = services.storage / "datasets"
    if not folder.is_dir():
        return []
    latest = (services.clock() - ORPHAN_AFTER).timestamp()
    old = [p for p in sorted(folder.iterdir()) if _unrecorded(p) and _touched(p) < latest]
    with services.database.read() as session:
        known = set(session.scalars(select(Dataset.id).where(Dataset.id.in_([p.name for p in old]))))
    left = [p for p in old if p.name not in known]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return [p.name for p in left]


def _unrecorded(folder: Path) -> bool:
    return folder.name.startswith(INCOMING) or (folder / MARK).exists()


def _touched(folder: Path) -> float:
    """When anything in a folder was written last; now, in effect, where it goes away meanwhile."""
    try:
        return max(p.lstat().st_mtime for p in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return float("inf")


def _publish(
    services: Services, caller: Principal, once: Idempotency, folder: Path, row: Dataset, found: Findings
) -> JSONResponse:
    """Put the folder in its place and make the row; the folder goes where another request has made the dataset."""
    (folder / MARK).touch()
    replace_file(folder / PREVIEW, DatasetPreview(rows=found.preview).model_dump_json().encode())
    target = services.dataset_folder(row.id)
    folder.rename(target)
    _sync(target.parent)

    def effect(connection: Connection) -> DatasetView:
        with joined(connection) as session:
            session.add(row)
        return view(row)

    try:
        answer = once.answer(services, caller, effect)
    except BaseException as error:
        if not (isinstance(error, SQLAlchemyError) and _may_be_recorded(services, row.id)):
            shutil.rmtree(target, ignore_errors=True)
        raise
    if replayed(answer):
        shutil.rmtree(target, ignore_errors=True)
    else:
        (target / MARK).unlink(missing_ok=True)
    return answer


def _may_be_recorded(services: Services, dataset_id: str) -> bool:
    """After a commit that failed: a database that went away may have the row. The mark stays, a sweep finds out."""
    try:
        with services.database.read() as session:
            return session.get(Dataset, dataset_id) is not None
    except SQLAlchemyError:
        return True


def _allowed(services: Services, asked: RegisteredFiles | RegisteredHub) -> dict[str, Any]:
    if isinstance(asked, RegisteredHub):
        allowed_repository(services.settings, asked.name, "source.name")
        return asked.model_dump()
    path = below_roots(services.settings.roots, asked.path, "source.path")
    try:
        files = data_files(str(path))
    except DatasetError as error:
        raise Refusal(422, "dataset_invalid", str(error), field="source.path") from error
    for file in files:
        below_roots(services.settings.roots, str(file), "source.path")
    return {"kind": "files", "path": str(path)}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
