"""Runs over REST."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Query, Response
from sqlalchemy import Connection

from xpo_ray.api.auth import Principal, allow, own_run
from xpo_ray.api.database.connection import joined
from xpo_ray.api.idempotency import Idempotency, Once, replayed
from xpo_ray.api.ids import new_id
from xpo_ray.api.paging import After, Limit, pack, page_of
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.api.runs import commands, deletion, store
from xpo_ray.api.runs.admission import check_room, enqueue
from xpo_ray.api.runs.fitting import check_fits, planned
from xpo_ray.api.runs.forks import enqueue_fork, fork_spec
from xpo_ray.api.runs.reservations import reserved
from xpo_ray.api.runs.specs import resolved
from xpo_ray.api.runs.views import attempt_view, found_run, run_views
from xpo_ray.api.services import Services, TheServices
from xpo_ray.errors import UserError
from xpo_ray.run_states import Status
from xpo_ray.wire.base import Page
from xpo_ray.wire.runs import AttemptView, Edit, Fork, RunView, Submission, Validated

router = APIRouter(prefix="/runs", tags=["runs"])


@router.post("", status_code=201, response_model=RunView)
async def submit_run(
    asked: Submission, services: TheServices, once: Once, caller: Principal = allow("submit")
) -> Response:
    """Queue a run. With an Idempotency-Key the same request makes one run, however often it is sent."""
    return await run_sync(_submitted, asked, services, once, caller, limiter=services.submissions)


def _submitted(asked: Submission, services: Services, once: Idempotency, caller: Principal) -> Response:
    run_id = new_id("run")
    try:
        check_room(services, caller)
        spec = resolved(services, asked.spec, asked.secrets, run_id)
        asked = asked.model_copy(update={"reservation": reserved(services, spec, asked.reservation)})
        check_fits(services, spec, asked.reservation)
        plain = spec.model_dump(mode="json")
    except (Refusal, UserError, OSError):
        if (before := once.earlier(services, caller)) is not None:  # what was taken before is not refused now
            return before
        raise

    def effect(connection: Connection) -> RunView:
        return enqueue(connection, services, caller, run_id, asked, plain)

    answer = once.answer(services, caller, effect)
    if not replayed(answer):
        services.changes.tell(run_id)
    return answer


@router.post("/validate")
def validate_run(asked: Submission, services: TheServices, _caller: Principal = allow("submit")) -> Validated:
    """The resolved spec and what the run would take; makes nothing."""
    spec = resolved(services, asked.spec, asked.secrets, "run_none")
    made = planned(services, spec, reserved(services, spec, asked.reservation))
    return Validated(spec=spec.model_dump(mode="json"), plan=made.to_json(), warnings=list(made.notes))


@router.get("")
def list_runs(
    services: TheServices,
    limit: Limit = 50,
    after: After = None,
    status: Annotated[list[Status] | None, Query()] = None,
    metadata: Annotated[list[str] | None, Query()] = None,
    owner: Annotated[str | None, Query(max_length=40)] = None,
    caller: Principal = allow("read"),
) -> Page[RunView]:
    """Runs, newest first; `owner=self` for the caller's own."""
    whose = caller.key_id if owner == "self" else owner
    with services.database.read() as session:
        rows = store.list_runs(session, after, limit + 1, statuses=status or (), metadata=metadata or (), owner=whose)
        views = run_views(session, rows)
    return page_of(views, limit, lambda v: pack(v.created_at.isoformat(), v.id))


@router.get("/{run_id}", response_model=RunView)
async def get_run(run_id: str, services: TheServices, _caller: Principal = allow("read")) -> Response:
    """One run; its version is the ETag."""
    view = await services.database.glance(lambda connection: found_run(connection, run_id))
    if view is None:
        raise not_found("run", run_id)
    return Response(view.model_dump_json(), media_type="application/json", headers={"ETag": f'"{view.version}"'})


@router.patch("/{run_id}")
def edit_run(
    run_id: str,
    changes: Edit,
    services: TheServices,
    response: Response,
    version: Annotated[str | None, Header(alias="If-Match", max_length=80)] = None,
    caller: Principal = allow("submit"),
) -> RunView:
    """Change a queued or paused run; If-Match holds the ETag under which it was read."""
    if version is None:
        raise Refusal(428, "precondition_required", "send If-Match with the ETag of the run", field="If-Match")
    view = commands.edit(services, caller, run_id, changes, version)
    response.headers["ETag"] = f'"{view.version}"'
    return view


@router.post("/{run_id}/pause")
def pause_run(run_id: str, services: TheServices, caller: Principal = allow("submit")) -> RunView:
    """Stop at the next committed shard and free the cluster."""
    return commands.command(services, caller, run_id, "pause")


@router.post("/{run_id}/resume")
def resume_run(run_id: str, services: TheServices, caller: Principal = allow("submit")) -> RunView:
    """Put a paused run back into the queue; it goes on from what is committed."""
    return commands.command(services, caller, run_id, "resume")


@router.post("/{run_id}/cancel")
def cancel_run(run_id: str, services: TheServices, caller: Principal = allow("submit")) -> RunView:
    """End a run for good; what it has committed stays."""
    return commands.command(services, caller, run_id, "cancel")


@router.get("/{run_id}/attempts")
def list_attempts(run_id: str, services: TheServices, caller: Principal = allow("read")) -> list[AttemptView]:
    """All attempts at a run, oldest first."""
    with services.database.read() as session:
        own_run(session, caller, run_id, change=False)
        return [attempt_view(row) for row in store.attempts_of(session, run_id)]


@router.delete("/{run_id}", status_code=204)
def delete_run(run_id: str, services: TheServices, caller: Principal = allow("submit")) -> Response:
    """Delete a run that has ended, with its files."""
    deletion.delete_run(services, caller, run_id)
    return Response(status_code=204)


@router.post("/{run_id}/fork", status_code=201, response_model=RunView)
def fork_run(
    run_id: str, asked: Fork, services: TheServices, once: Once, caller: Principal = allow("submit")
) -> Response:
    """Queue a new run that starts from the model of an iteration of this one, which need not be the caller's own. Its named
    secrets are inherited by its owner and by admins alone; others name those that they want in `secrets`."""
    if (before := once.earlier(services, caller)) is not None:
        return before
    check_room(services, caller)
    with services.database.read() as session:
        parent = own_run(session, caller, run_id, change=False)
    fork_id = new_id("run")
    made = fork_spec(services, caller, parent, asked, fork_id)

    def effect(connection: Connection) -> RunView:
        with joined(connection) as session:
            return enqueue_fork(session, services, caller, run_id, fork_id, made, asked.iteration)

    answer = once.answer(services, caller, effect)
    services.changes.tell(fork_id)
    return answer
