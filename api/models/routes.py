"""Models over REST."""

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from xpo_ray.api.auth import Principal, allow
from xpo_ray.api.database.connection import joined
from xpo_ray.api.database.tables import Model
from xpo_ray.api.datasets.roots import allowed_repository
from xpo_ray.api.idempotency import Once
from xpo_ray.api.ids import new_id
from xpo_ray.api.models import store
from xpo_ray.api.models.checking import checked_folder
from xpo_ray.api.paging import After, Limit, pack, page_of
from xpo_ray.api.problems import Refusal, not_found
from xpo_ray.api.services import Services, TheServices
from xpo_ray.wire.base import Page
from xpo_ray.wire.data import ModelView, NewModel

router = APIRouter(prefix="/models", tags=["models"])


@router.post("", status_code=201, response_model=ModelView)
def register_model(asked: NewModel, services: TheServices, once: Once, caller: Principal = allow("submit")) -> Response:
    """Register a folder below the operator's roots, or a hub repository on the operator's list. With an Idempotency-Key the
    same request makes one model, however often it is sent."""
    if (before := once.earlier(services, caller)) is not None:
        return before
    row = _row(services, caller, asked)

    def effect(connection: Connection) -> ModelView:
        with joined(connection) as session:
            session.add(row)
        return store.view(row)

    return once.answer(services, caller, effect)


@router.get("")
def list_models(
    services: TheServices, limit: Limit = 50, after: After = None, _caller: Principal = allow("read")
) -> Page[ModelView]:
    """All models, newest first."""
    with services.database.read() as session:
        views = [store.view(row) for row in store.list_models(session, after, limit + 1)]
    return page_of(views, limit, lambda v: pack(v.created_at.isoformat(), v.id))


@router.get("/{model_id}")
def get_model(model_id: str, services: TheServices, _caller: Principal = allow("read")) -> ModelView:
    """One model."""
    with services.database.read() as session:
        row = session.get(Model, model_id)
    if row is None:
        raise not_found("model", model_id)
    return store.view(row)


@router.delete("/{model_id}", status_code=204)
def delete_model(model_id: str, services: TheServices, caller: Principal = allow("submit")) -> Response:
    """Take a model off the list. Its files stay where they are, and so do runs that named it: their specs have its path."""
    with services.database.write() as session:
        row = session.get(Model, model_id)
        if row is None:
            raise not_found("model", model_id)
        if not caller.admin and row.owner != caller.key_id:
            raise Refusal(
                403, "not_the_owner", f"model {model_id} belongs to another key; only its owner or an admin deletes it"
            )
        session.delete(row)
    return Response(status_code=204)


def _row(services: Services, caller: Principal, asked: NewModel) -> Model:
    if (asked.path is None) == (asked.repository is None):
        raise Refusal(422, "model_invalid", "name either path or repository, not both and not neither", field="path")
    row = Model(
        id=new_id("model"),
        owner=caller.key_id,
        name=asked.name,
        path=None,
        repository=None,
        revision=asked.revision,
        parameters=None,
        architecture=None,
        created_at=services.clock(),
    )
    if asked.path is not None:
        if asked.revision is not None:
            raise Refusal(422, "model_invalid", "revision belongs to a repository; a folder has none", field="revision")
        facts = checked_folder(services.settings, asked.path)
        row.path, row.parameters, row.architecture = str(facts.path), facts.parameters, facts.architecture
    else:
        row.repository = allowed_repository(services.settings, asked.repository or "", "repository")
    return row
