"""The cluster over HTTP."""

from xpo_ray.wire.base import Answer
from xpo_ray.wire.runs import Reservation


class ClusterAnswer(Answer):
    """The Ray cluster that runs work on."""

    alive: bool
    """Whether it answered the last time that the service asked."""
    address: str | None
    dashboard: str | None
    """Where people see it."""
    totals: Reservation
    """What the queue may give away."""
    reserved: Reservation
    """What the runs under way hold."""
    queue_length: int
