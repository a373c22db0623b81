"""The asynchronous client against the real service over a real socket: lists, streams, waits and downloads, over refusals and
connections that break. What is decided stands in talks, which have tests of their own; the synchronous driver is the shell's.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.published import publish
from tests.api.rows import add_attempt, add_run
from tests.xpo_ray.client.front import Front
from tests.xpo_ray.serving import Served, served
from xpo_ray.api.database.tables import Run
from xpo_ray.api.events.store import append
from xpo_ray.api.events.stream import HEARTBEAT_S
from xpo_ray.api.rates import Rates
from xpo_ray.api.runs.life import move
from xpo_ray.client import ApiError, AsyncClient, Client, Refused, calls
from xpo_ray.client.drivers import SILENCE_S
from xpo_ray.wire.data import NewDataset, RegisteredFiles
from xpo_ray.wire.keys import NewKey

RUN = "run_seen"


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def service(tmp_path: Path, front: Front) -> Iterator[Served]:
    with served(tmp_path, tmp_path, before=front.before) as running:
        yield running


def held(service: Served, work: Any) -> Any:
    """The answer of `work(client)`."""

    async def hold() -> Any:
        async with AsyncClient(service.url, service.key) as client:
            made: Coroutine[Any, Any, Any] = work(client)
            return await made

    return asyncio.run(hold())


def tell(service: Served, kind: str, **payload: object) -> None:
    with service.services.database.write() as session:
        append(session, RUN, kind, payload, service.services.clock())
    service.services.changes.tell(RUN)


async def heard(client: AsyncClient, after: int = 0) -> list[int]:
    return [event.seq async for event in client.stream(RUN, after)]


def test_a_call_is_answered_a_list_is_walked_to_its_end_and_a_refusal_is_raised(service: Served) -> None:
    for n in range(5):
        add_run(service.services, f"run_{n}", service.key_id)

    async def work(client: AsyncClient) -> tuple[str, list[str]]:
        with pytest.raises(Refused, match="run_none"):
            await client.do(calls.get_run("run_none"))
        key = await client.do(calls.own_key())
        return key.id, [run.id async for run in client.each(lambda after: calls.list_runs(after, limit=2))]

    key_id, found = held(service, work)
    assert key_id == service.key_id
    assert sorted(found) == [f"run_{n}" for n in range(5)]


def test_a_busy_service_is_asked_again_and_what_it_did_is_done_once(
    service: Served, front: Front, tmp_path: Path
) -> None:
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    asked = NewDataset(name="a", source=RegisteredFiles(kind="files", path=str(tmp_path / "t.jsonl")))
    front.refusals = [(429, {"Retry-After": "1"}), (503, {})]
    made = held(service, lambda client: client.do(calls.register_dataset(asked)))
    sent = front.asked("/datasets/register")
    assert len(sent) == 3
    assert len({each.headers["idempotency-key"] for each in sent}) == 1
    with Client(service.url, service.key) as client:
        assert [d.id for d in client.each(calls.list_datasets)] == [made.id]


def test_what_may_not_be_done_twice_is_not_sent_again(service: Served, front: Front) -> None:
    front.refusals = [(503, {})]
    with pytest.raises(ApiError, match="503"):
        held(service, lambda client: client.do(calls.create_key(NewKey(name="a", scopes=["read"]))))
    assert len(front.asked("/keys")) == 1


def test_the_services_own_limit_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    with served(tmp_path, requests_per_minute=100) as service:
        began, ahead = time.monotonic(), 0.0
        service.services.rates = Rates(lambda: time.monotonic() - began + ahead)

        async def work(client: AsyncClient) -> str:
            nonlocal ahead
            await client.do(calls.own_key())
            ahead = 59.0  # all other calls come at the end of the minute
            for _ in range(99):
                await client.do(calls.own_key())
            return (await client.do(calls.own_key())).id

        assert held(service, work) == service.key_id


def test_a_stream_that_breaks_goes_on_behind_the_last_event(service: Served, front: Front) -> None:
    add_run(service.services, RUN, service.key_id, status="failed")
    for n in range(20):
        tell(service, "warned", code=f"n{n}")
    tell(service, "status_changed", **{"from": "running", "to": "failed", "why": "a test"})
    front.cuts = [1500, 900, 10]
    assert held(service, heard) == list(range(1, 22))
    began_at = [int(each.headers["last-event-id"]) for each in front.asked("/events/stream")]
    assert began_at[0] == 0
    assert began_at == sorted(began_at)
    assert len(set(began_at)) == 3, began_at
    assert held(service, lambda client: heard(client, after=20)) == [21]


def test_an_open_stream_and_a_wait_hear_of_the_end(service: Served) -> None:
    add_run(service.services, RUN, service.key_id, status="running")

    async def work(client: AsyncClient) -> tuple[list[int], str]:
        listening = asyncio.create_task(heard(client))
        waiting = asyncio.create_task(client.wait(RUN))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(tell, service, "warned", code="late")
        await asyncio.to_thread(finish, service)
        return await listening, (await waiting).status

    assert held(service, work) == ([1, 2], "succeeded")


def finish(service: Served) -> None:
    with service.services.database.write() as session:
        move(session, session.get_one(Run, RUN), "succeeded", service.services.clock(), why="a test")
    service.services.changes.tell(RUN)


def test_a_download_that_breaks_goes_on_by_range_and_is_whole(service: Served, front: Front, tmp_path: Path) -> None:
    add_run(service.services, RUN, service.key_id, status="succeeded", attempt=1)
    add_attempt(service.services, RUN, 1)
    written = publish(service.services.run_folder(RUN), 1, size=400_000)

    async def work(client: AsyncClient) -> list[Path]:
        [checkpoint] = await client.do(calls.run_checkpoints(RUN))
        front.seen.clear()
        front.cuts = [0, 150_000, 150_000, 7]
        return [await client.download(RUN, checkpoint.id, f, tmp_path / "to") for f in checkpoint.files]

    files = held(service, work)
    got = {str(f.relative_to(tmp_path / "to" / "model")): f.read_bytes() for f in files if "model" in f.parts}
    assert got == written
    ranges = [each.headers.get("range") for each in front.seen]
    assert "bytes=150000-" in ranges
    assert list((tmp_path / "to").rglob("*.part")) == []


def test_a_client_is_more_patient_than_a_silent_stream() -> None:
    assert 2 * HEARTBEAT_S < SILENCE_S
