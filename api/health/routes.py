"""Probes and metrics. /livez looks at the process alone; /readyz at the database, the disk and the background threads."""

import shutil
import time
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from xpo_ray.api.auth import Principal, allow, public
from xpo_ray.api.database.tables import Fact, Run
from xpo_ray.api.datasets.room import disk_fault
from xpo_ray.api.metrics import DATABASE_UP, DISK_FREE, QUEUED, REGISTRY, RUNS
from xpo_ray.api.services import Services, TheServices
from xpo_ray.wire.base import Answer

router = APIRouter(tags=["health"])
PROBE_EVERY_S = 1.0


class Readiness(Answer):
    """Each part, and what is wrong with it; None is well."""

    ready: bool
    database: str | None
    disk: str | None
    background: dict[str, str]
    """Threads that have died, or whose last turn failed. A failed turn (Ray away, say) leaves the service ready."""


@router.get("/livez")
def alive(_anybody: None = public()) -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Readiness}})
def ready(request: Request, services: TheServices, _anybody: None = public()) -> JSONResponse:
    """200 where runs and labels can be taken, 503 else."""
    threads: list[Any] = request.app.state.background
    dead = {t.name: "has died" for t in threads if not t.alive}
    failing = {t.name: t.failure for t in threads if t.alive and t.failure is not None}
    database, disk = _probed(request.app, services), disk_fault(services)
    state = Readiness(ready=not (database or disk or dead), database=database, disk=disk, background=dead | failing)
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(services: TheServices, _caller: Principal = allow("read")) -> Response:
    """In Prometheus' text format."""
    DISK_FREE.set(shutil.disk_usage(services.storage).free)
    DATABASE_UP.set(database_fault(services) is None)
    with services.database.read() as session:
        rows = session.execute(select(Run.status, func.count()).group_by(Run.status))
        counts = {row[0]: row[1] for row in rows}
    RUNS.clear()
    for status, count in counts.items():
        RUNS.labels(status).set(count)
    QUEUED.set(counts.get("queued", 0))
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _probed(app: FastAPI, services: Services) -> str | None:
    """The database's fault, looked up at most once a second: anybody may ask, and each look is a write."""
    at, fault = getattr(app.state, "probed", (-PROBE_EVERY_S, None))
    if time.monotonic() - at >= PROBE_EVERY_S:
        fault = database_fault(services)
        app.state.probed = time.monotonic(), fault
    return fault


def database_fault(services: Services) -> str | None:
    """Why the database cannot be written now."""
    try:
        with services.database.write() as session:
            fact = session.get(Fact, "probe") or Fact(name="probe", value={})
            fact.value = {"at": services.clock().isoformat()}
            session.add(fact)
    except SQLAlchemyError as error:
        return f"cannot be written: {type(error).__name__}"
    return None
