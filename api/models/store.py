"""Rows of registered models. Functions on a session."""

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Model
from xpo_ray.api.datasets.store import behind
from xpo_ray.wire.data import ModelView


def list_models(session: Session, after: str | None, limit: int) -> list[Model]:
    """Newest first."""
    query = select(Model).order_by(Model.created_at.desc(), Model.id.desc()).limit(limit)
    if after is not None:
        before, last = behind(after)
        query = query.where(or_(Model.created_at < before, (Model.created_at == before) & (Model.id < last)))
    return list(session.scalars(query))


def view(row: Model) -> ModelView:
    """A model as it goes over the wire."""
    return ModelView(
        id=row.id,
        created_at=row.created_at,
        name=row.name,
        owner=row.owner,
        path=row.path,
        repository=row.repository,
        revision=row.revision,
        parameters=row.parameters,
        architecture=row.architecture,
    )
