"""Long conversations as generators that do no I/O: follow the events of a run to its end, wait for a status.

The drivers do what is yielded; a service that is away for a minute (a restart) breaks none of them.
"""

from collections.abc import Collection, Generator
from dataclasses import dataclass, replace

from xpo_ray.client.calls import get_run, run_events
from xpo_ray.client.streams import EventTail
from xpo_ray.client.talk import RETRIED, Broken, Call, Reply, Request, T, Talk, Wait, accepted, pause_of
from xpo_ray.run_states import FINAL, Status
from xpo_ray.wire.events import EventView
from xpo_ray.wire.runs import RunView

PATIENT_TRIES = 14
"""About a minute and a half without any answer."""
LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Listen:
    """Open the stream and give its lines to the tail; the reply has no body when it was read to its end."""

    request: Request
    tail: EventTail


Following = Generator[Listen | Request | Wait | EventView, Reply | Broken | None, None]


def follow(tail: EventTail) -> Following:
    """Listen until the run is final. A connection that gave nothing is a reason to ask for the status of the run."""
    while not tail.ended:
        reply = yield Listen(tail.request(), tail)
        assert reply is not None
        if isinstance(reply, Reply) and reply.status not in RETRIED:
            accepted(reply)
        if tail.ended or not tail.fruitless:
            continue
        run = yield from patient(get_run(tail.run_id)).talk()
        if run.status in FINAL:
            yield from _rest(tail)
            return
        yield Wait(pause_of(reply, tail.fruitless) or LOOK_EVERY_S)


def wait(run_id: str, until: Collection[Status] = FINAL) -> Talk[RunView]:
    """The run when it has one of the statuses, or is final."""
    while True:
        run = yield from patient(get_run(run_id)).talk()
        if run.status in until or run.status in FINAL:
            return run
        yield Wait(LOOK_EVERY_S)


def patient(call: Call[T]) -> Call[T]:
    """The call with more tries."""
    return replace(call, tries=PATIENT_TRIES)


def _rest(tail: EventTail) -> Following:
    """Events that the stream did not give before the run became final."""
    while True:
        page = yield from patient(run_events(tail.run_id, after=str(tail.last))).talk()
        for event in page.items:
            if tail.take(event):
                yield event
        if page.next is None:
            return
