"""Following a run as lists of replies: drops, restarts of the service, and an end that the stream did not tell."""

from datetime import UTC, datetime

from xpo_ray.client.following import Listen, follow
from xpo_ray.client.streams import EventTail
from xpo_ray.client.talk import Broken, Reply, Request, Wait, advance
from xpo_ray.wire.base import Page
from xpo_ray.wire.events import EventView
from xpo_ray.wire.runs import Progress, Reservation, Retention, RunView

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(status: str) -> Reply:
    view = RunView.model_validate(
        {
            "id": "run_1",
            "created_at": NOW,
            "name": "a",
            "status": status,
            "owner": "key_1",
            "attempt": 1,
            "version": 1,
            "started_at": None,
            "finished_at": None,
            "priority": 0,
            "queue_position": None,
            "metadata": {},
            "reservation": Reservation(),
            "retention": Retention(),
            "spec": {},
            "progress": Progress(),
            "error": None,
            "forked_from": None,
            "ray_job": None,
        }
    )
    return Reply(200, {}, view.model_dump_json().encode())


def event(seq: int, kind: str = "step_done", **payload: object) -> EventView:
    return EventView(seq=seq, type=kind, level="info", attempt=1, at=NOW, payload=payload)


def page(*events: EventView) -> Reply:
    following = str(events[-1].seq) if events else None
    return Reply(200, {}, Page[EventView](items=list(events), next=following).model_dump_json().encode())


def test_a_restart_of_the_service_is_waited_for_and_the_end_is_found_without_the_stream() -> None:
    tail = EventTail("run_1")
    talk = follow(tail)
    step = advance(talk, None)
    assert isinstance(step, Listen)
    tail.take(event(1))
    step = advance(talk, Broken("reset"))
    assert isinstance(step, Listen)
    assert step.request.headers["Last-Event-ID"] == "1"
    script: list[Reply | Broken] = [Broken("refused"), Broken("refused"), run("running"), Broken("refused")]
    script += [run("succeeded"), page(event(1), event(2)), page()]
    heard: list[int] = []
    answer: Reply | Broken | None = script.pop(0)
    while (step := advance(talk, answer)) is not None:
        answer = None
        if isinstance(step, EventView):
            heard.append(step.seq)
        elif isinstance(step, Wait):
            assert step.seconds <= 8
        else:
            assert isinstance(step, Request | Listen)
            answer = script.pop(0)
    assert heard == [2]
    assert script == []


def test_the_event_of_the_end_ends_it() -> None:
    tail = EventTail("run_1")
    talk = follow(tail)
    advance(talk, None)
    tail.take(event(1, "status_changed", to="cancelled"))
    assert advance(talk, Reply(200, {}, b"")) is None
