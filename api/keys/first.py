"""The first start makes an admin key: without one nobody could make any."""

from sqlalchemy import select, text

from xpo_ray.api.database.tables import Key
from xpo_ray.api.database.upgrade import LOCK
from xpo_ray.api.keys.store import make_key
from xpo_ray.api.services import Services
from xpo_ray.wire.keys import NewKey


def first_key(services: Services) -> str | None:
    """The secret of a new admin key where the database has no key at all; None elsewhere."""
    with services.database.write() as session:
        if not services.database.on_sqlite:  # two processes that start together make one key
            session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        if session.scalar(select(Key.id).limit(1)) is not None:
            return None
        return make_key(session, NewKey(name="first admin", scopes=["admin"]), services.clock()).secret
