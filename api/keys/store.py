"""Keys in the database: made, listed, revoked. The secret passes through once and is never kept."""

from datetime import datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Key
from xpo_ray.api.ids import new_id
from xpo_ray.api.keys.secret import SHOWN, new_secret, sha256
from xpo_ray.api.paging import behind, pack
from xpo_ray.wire.keys import KeyView, MadeKey, NewKey


def make_key(session: Session, asked: NewKey, now: datetime) -> MadeKey:
    """A new key with its secret."""
    secret = new_secret()
    expires = None if asked.expires_in_days is None else now + timedelta(days=asked.expires_in_days)
    key = Key(
        id=new_id("key"),
        name=asked.name,
        prefix=secret[:SHOWN],
        secret_sha256=sha256(secret),
        scopes=list(dict.fromkeys(asked.scopes)),
        quotas=asked.quotas.model_dump(),
        created_at=now,
        expires_at=expires,
    )
    session.add(key)
    session.flush()
    return MadeKey(**view(key).model_dump(), secret=secret)


def view(key: Key) -> KeyView:
    """A key as it is shown."""
    return KeyView.model_validate({name: getattr(key, name) for name in KeyView.model_fields if name != "object"})


def list_keys(session: Session, after: str | None, limit: int) -> list[Key]:
    """Keys, newest first, from behind the cursor `after`."""
    asked = select(Key).order_by(Key.created_at.desc(), Key.id.desc()).limit(limit)
    if after is not None:
        before, last = behind(after)
        asked = asked.where(or_(Key.created_at < before, (Key.created_at == before) & (Key.id < last)))
    return list(session.scalars(asked))


def cursor(key: KeyView) -> str:
    """Where a list goes on behind a key."""
    return pack(key.created_at.isoformat(), key.id)


def revoke(key: Key, now: datetime) -> None:
    """End a key; what it owns stays."""
    if key.revoked_at is None:
        key.revoked_at = now
