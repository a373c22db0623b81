"""A stream that has nothing to say says that it lives, so that proxies keep the connection and clients know a dead one."""

import asyncio

import pytest
from sqlalchemy import select

from tests.api.conftest import Headers
from tests.api.rows import add_run
from xpo_ray.api.database.tables import Key
from xpo_ray.api.events.store import append
from xpo_ray.api.events.stream import HEARTBEAT_S, OpenStreams, stream
from xpo_ray.api.services import Services

RUN = "run_quiet"


@pytest.fixture
def run(services: Services, admin: Headers) -> str:
    assert admin
    with services.database.read() as session:
        owner = session.scalars(select(Key.id)).first()
    assert owner is not None
    add_run(services, RUN, owner)
    return RUN


def tell(services: Services) -> None:
    with services.database.write() as session:
        append(session, RUN, "warned", {"code": "late"}, services.clock())
    services.changes.tell(RUN)


async def words_until(services: Services, heartbeats: int, heartbeat_s: float) -> list[str]:
    """What a stream says; an event is told after so many heartbeats, and the stream closed after as many more."""
    services.changes.bind(asyncio.get_running_loop())
    said: list[str] = []
    told = False
    words = stream(services, OpenStreams(), "key", RUN, 0, heartbeat_s)
    async for each in words:
        said.append(each)
        if said.count(": alive\n\n") == heartbeats and not told:
            told = True
            await asyncio.to_thread(tell, services)
        if said.count(": alive\n\n") == 2 * heartbeats:
            break
    await words.aclose()  # type: ignore[attr-defined]
    return said


def test_a_quiet_stream_speaks_each_interval_before_and_after_an_event(services: Services, run: str) -> None:
    assert run
    said = asyncio.run(asyncio.wait_for(words_until(services, 2, 0.05), 30))
    kinds = [each.splitlines()[0] for each in said]
    assert kinds == [": the events of this run", ": alive", ": alive", "id: 1", ": alive", ": alive"]


def test_the_interval_is_that_of_the_design() -> None:
    assert HEARTBEAT_S == 15.0
