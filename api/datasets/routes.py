"""Datasets over REST."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.database.tables import Dataset
from xpo_ray.api.datasets import intake, store
from xpo_ray.api.datasets.findings import PREVIEW_ROWS
from xpo_ray.api.datasets.room import check_disk, check_quota
from xpo_ray.api.datasets.uploading import Upload, receive
from xpo_ray.api.idempotency import Idempotency, Once, OnceKey, known, once_of
from xpo_ray.api.ids import new_id
from xpo_ray.api.paging import After, Limit, pack, page_of
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.api.services import Services, TheServices
from xpo_ray.wire.base import Name, Page
from xpo_ray.wire.data import DatasetPreview, DatasetView, NewDataset

router = APIRouter(prefix="/datasets", tags=["datasets"])
NAME: TypeAdapter[str] = TypeAdapter(Name)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"},
                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    },
                }
            }
        },
    }
}


@router.post("", status_code=201, openapi_extra=BODY, response_model=DatasetView)
async def upload_dataset(
    request: Request, services: TheServices, key: OnceKey = None, caller: Principal = allow("submit")
) -> Response:
    """Upload parquet, jsonl, json or csv files, in the order in which they are read. All rows are read before the answer.

    With an Idempotency-Key the same name and files make one dataset, however often they are sent.
    """
    declared = request.headers.get("content-length", "0")
    wanted = int(declared) if declared.isdigit() else 0
    await run_in_threadpool(_check_room, services, caller, wanted, key)
    dataset_id = new_id("ds")
    with intake.incoming(services, dataset_id) as folder:
        upload = await receive(
            request.headers.get("content-type", ""), request.stream(), folder, lambda: check_disk(services)
        )
        once = once_of(request, key, upload.content)
        return await run_in_threadpool(_take, services, caller, once, dataset_id, upload)


@router.post("/register", status_code=201, response_model=DatasetView)
def register_dataset(
    asked: NewDataset, services: TheServices, once: Once, caller: Principal = allow("submit")
) -> Response:
    """Name files or a hub dataset that the operator allows; they stay where they are. With an Idempotency-Key once."""
    if (before := once.earlier(services, caller)) is not None:
        return before
    check_disk(services)
    return intake.register(services, caller, once, asked)


@router.get("")
def list_datasets(
    services: TheServices, limit: Limit = 50, after: After = None, _caller: Principal = allow("read")
) -> Page[DatasetView]:
    """All datasets, newest first."""
    with services.database.read() as session:
        views = [store.view(row) for row in store.list_datasets(session, after, limit + 1)]
    return page_of(views, limit, lambda v: pack(v.created_at.isoformat(), v.id))


@router.get("/{dataset_id}")
def get_dataset(dataset_id: str, services: TheServices, _caller: Principal = allow("read")) -> DatasetView:
    """One dataset with the report of its columns."""
    return store.view(_dataset(services, dataset_id))


@router.get("/{dataset_id}/preview")
def preview_dataset(
    dataset_id: str,
    services: TheServices,
    limit: Annotated[int, Query(ge=1, le=PREVIEW_ROWS)] = 10,
    _caller: Principal = allow("read"),
) -> DatasetPreview:
    """The first rows: as a run reads them, and as they are."""
    _dataset(services, dataset_id)
    return intake.preview_of(services, dataset_id, limit)


@router.delete("/{dataset_id}", status_code=204)
def delete_dataset(dataset_id: str, services: TheServices, caller: Principal = allow("submit")) -> Response:
    """Delete a dataset that no run needs any more. Uploaded files go; registered ones stay where they are."""
    with services.database.read() as session:
        _deletable(session, caller, dataset_id)
    intake.mark(services, dataset_id)
    with services.database.write() as session:
        session.delete(_deletable(session, caller, dataset_id))
    intake.remove_files(services, dataset_id)
    return Response(status_code=204)


def _deletable(session: Session, caller: Principal, dataset_id: str) -> Dataset:
    row = session.get(Dataset, dataset_id)
    if row is None:
        raise not_found("dataset", dataset_id)
    if not caller.admin and row.owner != caller.key_id:
        detail = f"dataset {dataset_id} belongs to another key; only its owner or an admin deletes it"
        raise Refusal(403, "not_the_owner", detail)
    if users := store.users_of(session, row):
        detail = f"runs that are not finished read it: {', '.join(users[:5])}; cancel them or wait"
        raise Refusal(409, "dataset_in_use", detail)
    return row


def _check_room(services: Services, caller: Principal, wanted: int, key: str | None) -> None:
    check_disk(services, wanted)
    if not known(services, caller, key):  # what is sent again is counted already
        check_quota(services, caller, wanted)


def _take(services: Services, caller: Principal, once: Idempotency, dataset_id: str, upload: Upload) -> Response:
    if unknown := sorted(set(upload.fields) - {"name"}):
        raise Refusal(
            422, "upload_invalid", f"unknown field {unknown[0]!r:.60}; known are name and file", field=unknown[0]
        )
    if not upload.files:
        raise Refusal(422, "upload_invalid", "no file in the body; send at least one in the field `file`", field="file")
    try:
        name = NAME.validate_python(upload.fields.get("name"))
    except ValidationError as error:
        detail = "name: 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise Refusal(422, "upload_invalid", detail, field="name") from error
    if (before := once.earlier(services, caller)) is not None:
        return before
    check_quota(services, caller, sum(p.stat().st_size for p in upload.files))
    return intake.take_upload(services, caller, once, dataset_id, name, upload)


def _dataset(services: Services, dataset_id: str) -> Dataset:
    with services.database.read() as session:
        row = session.get(Dataset, dataset_id)
    if row is None:
        raise not_found("dataset", dataset_id)
    return row
