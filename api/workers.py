"""The threads of the service: the one place where each room's is named. `create_app` starts and stops them with the app.

A room gives an object with name, failure, alive, start() and stop(); xpo_ray.api.background has the usual one.
"""

from typing import Protocol

from xpo_ray.api.cluster.worker import ReconcilerThread
from xpo_ray.api.services import Services
from xpo_ray.api.upkeep import upkeep
from xpo_ray.api.webhooks.deliveries import deliveries


class Worker(Protocol):
    """What works behind the routes."""

    name: str
    failure: str | None
    """What its last turn failed with; None when it went well."""

    @property
    def alive(self) -> bool: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


def workers(services: Services) -> list[Worker]:
    """All of them, in the order in which they start; they stop in the reverse order."""
    return [upkeep(services), deliveries(services), ReconcilerThread(services)]
