"""How a dataset comes in: files first, then the row, so that a crash between leaves a folder without a row and never the
other way round. Such folders are swept at the next start.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Dataset
from xpo_ray.api.datasets.checking import checked
from xpo_ray.api.datasets.findings import Findings
from xpo_ray.api.datasets.roots import allowed_repository, below_roots
from xpo_ray.api.datasets.store import row_of
from xpo_ray.api.datasets.uploading import Upload
from xpo_ray.api.ids import new_id
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.datasets.files import data_files
from xpo_ray.errors import DatasetError
from xpo_ray.storage import replace_file
from xpo_ray.wire.data import DatasetPreview, NewDataset, RegisteredFiles, RegisteredHub

INCOMING = ".incoming-"
PREVIEW = "preview.json"


@contextmanager
def incoming(services: Services, dataset_id: str) -> Iterator[Path]:
    """A folder for files on their way in; whatever is still there at the end is removed."""
    folder = services.storage / "datasets" / f"{INCOMING}{dataset_id}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_upload(services: Services, caller: Principal, dataset_id: str, name: str, upload: Upload) -> Dataset:
    """Check the uploaded files, put them in place, and make the row. Raises Refusal."""
    found = checked({"kind": "files", "path": [str(p) for p in upload.files]}, upload.folder, str(upload.folder))
    target = services.dataset_folder(dataset_id)
    source = {"kind": "files", "path": [str(target / p.name) for p in upload.files]}
    return _publish(
        services,
        upload.folder,
        row_of(dataset_id, caller.key_id, name, "uploaded", source, found, services.clock()),
        found,
    )


def register(services: Services, caller: Principal, asked: NewDataset) -> Dataset:
    """Check files or a hub dataset that the operator allows, and make the row. Raises Refusal."""
    source = _allowed(services, asked.source)
    dataset_id = new_id("ds")
    with incoming(services, dataset_id) as folder:
        found = checked(source, folder, str(folder))
        row = row_of(dataset_id, caller.key_id, asked.name, asked.source.kind, source, found, services.clock())
        return _publish(services, folder, row, found)


def preview_of(services: Services, dataset_id: str, limit: int) -> DatasetPreview:
    """The first rows, as they were when the dataset came in."""
    kept = DatasetPreview.model_validate_json((services.dataset_folder(dataset_id) / PREVIEW).read_bytes())
    return DatasetPreview(rows=kept.rows[:limit])


def remove_files(services: Services, dataset_id: str) -> None:
    """Remove what lies in storage for a dataset whose row is gone; registered files stay where they are."""
    shutil.rmtree(services.dataset_folder(dataset_id), ignore_errors=True)


def sweep(services: Services) -> list[str]:
    """Remove folders without a row: what a crash left. Only at start, before anything comes in."""
    folder = services.storage / "datasets"
    if not folder.is_dir():
        return []
    with services.database.read() as session:
        known = set(session.scalars(select(Dataset.id)))
    left = [p for p in sorted(folder.iterdir()) if p.name not in known]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return [p.name for p in left]


def _publish(services: Services, folder: Path, row: Dataset, found: Findings) -> Dataset:
    replace_file(folder / PREVIEW, DatasetPreview(rows=found.preview).model_dump_json().encode())
    target = services.dataset_folder(row.id)
    folder.rename(target)
    _sync(target.parent)
    try:
        with services.database.write() as session:
            session.add(row)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return row


def _allowed(services: Services, asked: RegisteredFiles | RegisteredHub) -> dict[str, Any]:
    if isinstance(asked, RegisteredHub):
        allowed_repository(services.settings, asked.name, "source.name")
        return asked.model_dump()
    path = below_roots(services.settings, asked.path, "source.path")
    try:
        files = data_files(str(path))
    except DatasetError as error:
        raise Refusal(422, "dataset_invalid", str(error), field="source.path") from error
    for file in files:
        below_roots(services.settings, str(file), "source.path")
    return {"kind": "files", "path": str(path)}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
