"""Server-sent events of a run, over connections that may drop: no event is lost and none comes twice. No I/O here."""

from xpo_ray.client.talk import Request, part
from xpo_ray.run_states import FINAL
from xpo_ray.wire.events import EventView


class EventTail:
    """Where a listener stands in the events of a run."""

    def __init__(self, run_id: str, after: int = 0) -> None:
        self.run_id = run_id
        self.last = after
        self.ended = False
        self.fruitless = 0
        """Connections in a row that gave no event."""
        self._data: list[str] = []

    def request(self) -> Request:
        """Asks for what comes after the last event."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self.last)}
        self._data, self.fruitless = [], self.fruitless + 1
        return Request("GET", f"/v1/runs/{part(self.run_id)}/events/stream", headers=headers)

    def feed(self, line: str) -> EventView | None:
        """One line of the stream; an event where it completes one that is new."""
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        if line or not self._data:
            return None
        event = EventView.model_validate_json("\n".join(self._data))
        self._data = []
        return event if self.take(event) else None

    def take(self, event: EventView) -> bool:
        """Note an event; says whether it is new."""
        if event.seq <= self.last:
            return False
        self.last, self.fruitless = event.seq, 0
        self.ended = event.type == "status_changed" and event.payload.get("to") in FINAL
        return True
