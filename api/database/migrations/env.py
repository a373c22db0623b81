"""Alembic's environment: migrations run on the connection, and in the transaction, of `upgrade`."""

from typing import Any, Literal

from alembic import context

from xpo_ray.api.database.tables import Moment, Table


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A migration names no class of ours: those go on changing, it does not."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Moment) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_item,
)
context.run_migrations()
