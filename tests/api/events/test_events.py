"""Series, iterations and the event stream of a run, read over REST from rows as drivers' journals leave them."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.api.conftest import Headers
from tests.api.rows import add_run
from xpo_ray.api.database.tables import Evaluation, Key, Run, Stage, Step
from xpo_ray.api.events.store import append
from xpo_ray.api.events.stream import OpenStreams, stream
from xpo_ray.api.problems import Refusal
from xpo_ray.api.runs.life import move
from xpo_ray.api.services import Services

RUN = "run_seen"


@pytest.fixture
def owner(services: Services, admin: Headers) -> str:
    assert admin
    with services.database.read() as session:
        return session.scalars(select(Key.id)).first() or ""


@pytest.fixture
def run(services: Services, owner: str) -> str:
    """A running run of three iterations, of which the first is published and the second under way."""
    add_run(services, RUN, owner, attempt=1, progress={"iterations": 3})
    at = services.clock()
    with services.database.write() as session:
        for t in (1, 2):
            plan = {"prompts": 8, "shards": 2, "steps": 2, "kappa": 0.5, "learning_rate": 1e-4}
            append(session, RUN, "iteration_started", {"iteration": t, **plan}, at)
        append(session, RUN, "iteration_published", {"iteration": 1, "checkpoint": "c1"}, at)
        for total, loss in enumerate([0.7, None, 0.5], start=1):
            values = {"iteration": 1 + total // 3, "step": 1, "seconds": 2.0, "metrics": {"loss": loss, "note": "x"}}
            session.add(Step(run_id=RUN, total_step=total, attempt=1, at=at + timedelta(seconds=total), **values))
        session.add(Evaluation(run_id=RUN, iteration=1, metrics={"reward": 0.25}, at=at))
        for stage, seconds in (("scored", 4.0), ("sampled", 0.0)):
            session.add(Stage(run_id=RUN, iteration=1, stage=stage, shards=2, prompts=8, seconds=seconds, counts={}))
    return RUN


def test_series_go_by_total_step_by_iteration_and_by_stage(api: TestClient, run: str, reader: Headers) -> None:
    metrics = api.get(f"/v1/runs/{run}/metrics", headers=reader).json()
    assert metrics["steps"] == [
        {"name": "loss", "x": [1.0, 2.0, 3.0], "y": [0.7, None, 0.5]},
        {"name": "seconds", "x": [1.0, 2.0, 3.0], "y": [2.0, 2.0, 2.0]},
    ]
    assert metrics["evaluations"] == [{"name": "reward", "x": [1.0], "y": [0.25]}]
    assert metrics["stages"] == [
        {"name": "sampled", "x": [1.0], "y": [None]},
        {"name": "scored", "x": [1.0], "y": [2.0]},
    ]


def test_iterations_say_how_far_each_has_come(api: TestClient, run: str, reader: Headers) -> None:
    first, second, third = api.get(f"/v1/runs/{run}/iterations", headers=reader).json()
    assert [i["status"] for i in (first, second, third)] == ["published", "running", "planned"]
    assert (first["shards_scored"], first["steps_done"], first["evaluation"]) == (2, 2, {"reward": 0.25})
    assert (second["prompts"], second["steps_done"], second["kappa"]) == (8, 1, 0.5)
    assert (third["prompts"], third["steps_done"], third["evaluation"]) == (None, 0, None)


def test_pages_of_events_follow_each_other(api: TestClient, run: str, reader: Headers) -> None:
    first = api.get(f"/v1/runs/{run}/events", params={"limit": 2}, headers=reader).json()
    assert ([e["seq"] for e in first["items"]], first["next"]) == ([1, 2], "2")
    rest = api.get(f"/v1/runs/{run}/events", params={"after": first["next"]}, headers=reader).json()
    assert [e["seq"] for e in rest["items"]] == [3]
    end = api.get(f"/v1/runs/{run}/events", params={"after": 3}, headers=reader).json()
    assert (end["items"], end["next"]) == ([], None)


def test_the_newest_events_come_in_order_without_those_before_them(
    both_databases: str, api: TestClient, run: str, reader: Headers
) -> None:
    def newest(limit: int) -> tuple[list[int], str | None]:
        page = api.get(f"/v1/runs/{run}/events", params={"newest": "true", "limit": limit}, headers=reader).json()
        return [e["seq"] for e in page["items"]], page["next"]

    assert (newest(2), newest(50)) == (([2, 3], "3"), ([1, 2, 3], "3")), both_databases
    answer = api.get(f"/v1/runs/{run}/events", params={"newest": "true", "after": 1}, headers=reader)
    assert (answer.status_code, answer.json()["field"]) == (422, "newest")


def finish(services: Services) -> None:
    with services.database.write() as session:
        move(session, session.get_one(Run, RUN), "succeeded", services.clock(), why="a test")
    services.changes.tell(RUN)


def test_an_open_stream_gets_what_is_behind_the_last_id_then_news_then_ends(
    services: Services, api: TestClient, run: str, reader: Headers
) -> None:
    later = threading.Timer(0.2, finish, [services])
    later.start()
    heard = api.get(f"/v1/runs/{run}/events/stream", headers={**reader, "Last-Event-ID": "2"}).text
    later.join()
    frames = [frame.splitlines() for frame in heard.split("\n\n") if frame.startswith("id:")]
    assert [f[:2] for f in frames] == [
        ["id: 3", "event: iteration_published"],
        ["id: 4", "event: status_changed"],
    ]


def test_a_stream_ends_at_once_when_the_service_does(services: Services, run: str) -> None:
    async def listen() -> list[Any]:
        services.changes.bind(asyncio.get_running_loop())
        heard: list[Any] = []

        async def read() -> None:
            async for words in stream(services, OpenStreams(), "key", run, 0):
                heard.append(words)

        reading = asyncio.create_task(read())
        while len(heard) < 4:
            await asyncio.sleep(0.01)
        services.changes.close()
        await asyncio.wait_for(reading, 1.5)
        return heard

    assert len(asyncio.run(listen())) == 4


def test_a_key_has_so_many_streams_and_a_closed_one_makes_room(services: Services, run: str) -> None:
    async def listen() -> None:
        streams = OpenStreams()
        words = stream(services, streams, "key", run, 0)
        await anext(words)
        with pytest.raises(Refusal) as refused:
            streams.check("key", 1)
        assert refused.value.status == 429
        streams.check("another", 1)
        await words.aclose()  # type: ignore[attr-defined]
        streams.check("key", 1)

    asyncio.run(listen())
