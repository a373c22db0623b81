"""What every route and every background task works with, made once by `app.create_app`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from xpo_ray.api.changes import Changes
from xpo_ray.api.clock import Clock, now
from xpo_ray.api.cluster.capacity import Totals
from xpo_ray.api.database.connection import Database
from xpo_ray.api.keys.known import KnownCallers
from xpo_ray.api.rates import Rates
from xpo_ray.api.settings import Settings


@dataclass
class Services:
    """The service's parts. Tests make one of their own, with a clock of their own."""

    settings: Settings
    database: Database
    changes: Changes = field(default_factory=Changes)
    clock: Clock = now
    rates: Rates = field(default_factory=Rates)
    callers: KnownCallers = field(default_factory=KnownCallers)
    totals: Totals | None = None
    """Of the cluster, as the reconciler saw it last; None before."""
    submissions: CapacityLimiter = field(init=False)
    """Submissions that are made at a time. SQLite has one writer, and Python one lock: while one is written, the next few are
    checked; more threads would only fight for both."""

    def __post_init__(self) -> None:
        self.submissions = CapacityLimiter(4 if self.database.on_sqlite else 20)

    @property
    def storage(self) -> Path:
        return self.settings.storage.absolute()

    def run_folder(self, run_id: str) -> Path:
        """Where a run's files lie: the root of its attempts."""
        return self.storage / "runs" / run_id

    def dataset_folder(self, dataset_id: str) -> Path:
        return self.storage / "datasets" / dataset_id


def services_of(request: Request) -> Services:
    """The services of the app that answers."""
    found: Services = request.app.state.services
    return found


async def _services(request: Request) -> Services:
    """Without a hop to another thread, which FastAPI would take for a plain function."""
    return services_of(request)


TheServices = Annotated[Services, Depends(_services)]
