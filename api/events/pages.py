"""Reading the event log: pages by `seq`, for lists and streams alike."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from xpo_ray.api.database.tables import Event
from xpo_ray.wire.events import EventView


def events_after(session: Session, run_id: str, after: int, limit: int) -> list[EventView]:
    """At most so many events behind `after`, in order."""
    query = select(Event).where(Event.run_id == run_id, Event.seq > after).order_by(Event.seq).limit(limit)
    return [_view(row) for row in session.scalars(query)]


def newest_events(session: Session, run_id: str, limit: int) -> list[EventView]:
    """At most so many of the last events, in order."""
    query = select(Event).where(Event.run_id == run_id).order_by(Event.seq.desc()).limit(limit)
    return [_view(row) for row in session.scalars(query)][::-1]


def _view(row: Event) -> EventView:
    return EventView(
        seq=row.seq,
        type=row.type,
        level=row.level,
        attempt=row.attempt,
        at=row.at,
        payload=row.payload,
    )
