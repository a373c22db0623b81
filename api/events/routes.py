"""Events of a run over REST."""

from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from xpo_ray.api.auth import Principal, allow, own_run
from xpo_ray.api.events.iterations import iterations_of
from xpo_ray.api.events.metrics import metrics_of
from xpo_ray.api.events.pages import events_after, newest_events
from xpo_ray.api.events.stream import OpenStreams, stream
from xpo_ray.api.paging import Limit
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import TheServices
from xpo_ray.wire.artifacts import IterationView
from xpo_ray.wire.base import Page
from xpo_ray.wire.events import EventView, Metrics

router = APIRouter(prefix="/runs/{run_id}", tags=["events"])
STREAMS = OpenStreams()
Seq = Annotated[int, Query(ge=0, lt=2**63)]


@router.get("/events")
def list_events(
    run_id: str,
    services: TheServices,
    after: Seq | None = None,
    limit: Limit = 50,
    newest: Annotated[bool, Query()] = False,
    caller: Principal = allow("read"),
) -> Page[EventView]:
    """Events behind `after`, in order; with `newest` the last ones, in order too. `next` is the last one's `seq`, None behind
    the last. `seq` has no gap: those before a page are the ones behind its first `seq` less `limit` and one."""
    if newest and after is not None:
        raise Refusal(422, "request_invalid", "name either after or newest: the newest are behind all", field="newest")
    with services.database.read() as session:
        own_run(session, caller, run_id, change=False)
        items = newest_events(session, run_id, limit) if newest else events_after(session, run_id, after or 0, limit)
    return Page(items=items, next=str(items[-1].seq) if items else None)


@router.get("/events/stream", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
def stream_events(
    run_id: str,
    services: TheServices,
    after: Seq = 0,
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, lt=2**63)] = None,
    caller: Principal = allow("read"),
) -> StreamingResponse:
    """Server-sent events: those behind Last-Event-ID (or `after`), then new ones, to the end of the run."""
    with services.database.read() as session:
        own_run(session, caller, run_id, change=False)
    STREAMS.check(caller.key_id, services.settings.limits.streams_per_key)
    start = after if last_event_id is None else last_event_id
    return StreamingResponse(
        stream(services, STREAMS, caller.key_id, run_id, start),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/metrics")
def get_metrics(run_id: str, services: TheServices, caller: Principal = allow("read")) -> Metrics:
    """Series of a run."""
    with services.database.read() as session:
        own_run(session, caller, run_id, change=False)
        return metrics_of(session, run_id)


@router.get("/iterations")
def list_iterations(run_id: str, services: TheServices, caller: Principal = allow("read")) -> list[IterationView]:
    """Iterations of a run, with how far each has come."""
    with services.database.read() as session:
        return iterations_of(session, own_run(session, caller, run_id, change=False))
