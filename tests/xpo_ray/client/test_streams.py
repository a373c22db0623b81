"""A tail over dropped connections: no gap, no double, and an end."""

import json

from xpo_ray.client.streams import EventTail


def lines(seq: int, kind: str = "step_done", **payload: object) -> list[str]:
    event = {"seq": seq, "type": kind, "level": "info", "attempt": 1, "at": "2026-01-01T00:00:00Z", "payload": payload}
    return [f"id: {seq}", f"event: {kind}", f"data: {json.dumps(event)}", ""]


def test_half_an_event_of_a_dropped_connection_is_forgotten_and_known_events_are_left_out() -> None:
    tail = EventTail("run_1")
    first = [tail.feed(line) for line in [*lines(1), ": heartbeat", "", *lines(2)[:3]]]
    assert [event.seq for event in first if event] == [1]
    assert tail.request().headers["Last-Event-ID"] == "1"
    second = [tail.feed(line) for line in [*lines(1), *lines(2), *lines(3, "status_changed", to="succeeded")]]
    assert [event.seq for event in second if event] == [2, 3]
    assert tail.ended
