"""Artifacts over REST. Runs are named by id, files by hashes; no path is ever taken from a caller."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from xpo_ray.api.artifacts.archive import archive_name, model_archive
from xpo_ray.api.artifacts.checkpoints import find_checkpoint, find_file, list_checkpoints
from xpo_ray.api.artifacts.downloads import Sending, attachment, download
from xpo_ray.api.artifacts.logs import MAX_BYTES, log_part
from xpo_ray.api.artifacts.opening import open_committed
from xpo_ray.api.artifacts.reports import policy_of, report_of
from xpo_ray.api.artifacts.samples import Place, samples
from xpo_ray.api.auth import Principal, allow, own_run
from xpo_ray.api.database.tables import Attempt, Evaluation, Run
from xpo_ray.api.paging import pack, page_of, unpack
from xpo_ray.api.problems import not_found
from xpo_ray.api.services import Services, TheServices
from xpo_ray.run_states import FINAL
from xpo_ray.wire.artifacts import CheckpointView, SampleView
from xpo_ray.wire.base import Page

router = APIRouter(prefix="/runs/{run_id}", tags=["artifacts"])


class SampleQuery(BaseModel):
    """Which samples."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["held_out", "training"] = "held_out"
    iteration: int | None = Field(None, ge=0, le=1_000_000)
    after: str | None = Field(None, max_length=500)
    limit: int = Field(50, ge=1, le=200)


class LogQuery(BaseModel):
    """Which part of which log."""

    model_config = ConfigDict(extra="forbid")

    attempt: int | None = Field(None, ge=1, le=9999)
    """Default: the newest."""
    after: int = Field(0, ge=0, le=2**53)
    """Bytes that the caller has: X-Next-Offset of the answer before."""
    limit: int = Field(65536, ge=16, le=MAX_BYTES)


@router.get("/samples")
def list_samples(
    run_id: str, services: TheServices, query: Annotated[SampleQuery, Query()], caller: Principal = allow("read")
) -> Page[SampleView]:
    """What was drawn: held-out responses beside those of the base and of the iteration before, or training candidates."""
    _run(services, caller, run_id)
    after = None if query.after is None else Place(*unpack(query.after, int, int, int))
    found = samples(services.run_folder(run_id), query.kind, query.iteration, after, query.limit + 1)
    page = page_of(found, query.limit, lambda each: pack(each[0].iteration, each[0].shard, each[0].row))
    return Page(items=[view for _, view in page.items], next=page.next)


@router.get("/checkpoints")
def checkpoints(run_id: str, services: TheServices, caller: Principal = allow("read")) -> list[CheckpointView]:
    """Published checkpoints, oldest first; those whose files were freed are marked."""
    run = _run(services, caller, run_id)
    return list_checkpoints(services.run_folder(run_id), run_id, _evaluations(services, run_id), _selected(run))


@router.get(
    "/checkpoints/{checkpoint_id}/files/{file_id}",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {}}},
        206: {"description": "The part that Range asks for"},
        304: {"description": "The caller has it"},
    },
)
def checkpoint_file(
    run_id: str,
    checkpoint_id: str,
    file_id: str,
    request: Request,
    services: TheServices,
    caller: Principal = allow("read"),
) -> Response:
    """One file of a checkpoint; Range and If-None-Match are heeded, the ETag is the sha256."""
    _run(services, caller, run_id)
    root = services.run_folder(run_id)
    checkpoint = find_checkpoint(root, run_id, checkpoint_id)
    name, size, sha256 = find_file(run_id, checkpoint, file_id)
    file = open_committed(root, f"{checkpoint.path}/{name}", size, sha256, f"file {file_id}")
    return download(file, Path(name).name, size, sha256, request.headers)


@router.get(
    "/checkpoints/{checkpoint_id}/archive",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": {}}}},
)
def checkpoint_archive(
    run_id: str, checkpoint_id: str, services: TheServices, caller: Principal = allow("read")
) -> Response:
    """The model of a checkpoint as one tar archive; with model.lora it is the adapter."""
    run = _run(services, caller, run_id)
    root = services.run_folder(run_id)
    checkpoint = find_checkpoint(root, run_id, checkpoint_id)
    name = archive_name(run.name, checkpoint)
    archive = model_archive(root, checkpoint, name, run.created_at.timestamp())
    headers = {**attachment(f"{name}.tar"), "Content-Length": str(archive.length)}
    stream = archive.stream()
    return Sending(stream, stream.close, 200, headers, "application/x-tar")


@router.get("/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def report(run_id: str, services: TheServices, caller: Principal = allow("read")) -> Response:
    """The report of the run: one page of HTML without any reference to the outside."""
    run = _run(services, caller, run_id)
    page = report_of(services.run_folder(run_id), run.attempt, ended=run.status in FINAL)
    return Response(page, headers={"Content-Security-Policy": policy_of(page)}, media_type="text/html; charset=utf-8")


@router.get("/logs", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def logs(
    run_id: str, services: TheServices, query: Annotated[LogQuery, Query()], caller: Principal = allow("read")
) -> Response:
    """What an attempt's driver and actors printed, tracebacks included; X-Next-Offset is the next `after`."""
    run = _run(services, caller, run_id)
    number = query.attempt or run.attempt
    with services.database.read() as session:
        if number != 0 and session.get(Attempt, (run_id, number)) is None:
            raise not_found("attempt", f"{run_id}/{number}")
    part = log_part(services.run_folder(run_id), number, query.after, query.limit)
    headers = {
        "X-Next-Offset": str(part.next),
        "X-Log-Size": str(part.size),
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Response(part.data, headers=headers, media_type="text/plain; charset=utf-8")


def _run(services: Services, caller: Principal, run_id: str) -> Run:
    with services.database.read() as session:
        return own_run(session, caller, run_id, change=False)


def _evaluations(services: Services, run_id: str) -> Mapping[int, dict[str, Any]]:
    with services.database.read() as session:
        rows = session.scalars(select(Evaluation).where(Evaluation.run_id == run_id))
        return {row.iteration: row.metrics for row in rows}


def _selected(run: Run) -> int | None:
    return None if run.result is None else run.result.get("selected_iteration")
