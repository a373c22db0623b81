"""The service as one FastAPI app: the rooms' routes, what stands before all of them, and what runs behind.

request ─► request id, log ─► host, size, rate ─► route (key, scope) ─► store, in one transaction ─► answer
                                                 reconciler, deliveries, upkeep: threads of the lifespan
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends, FastAPI

from xpo_ray import __version__
from xpo_ray.api import problems
from xpo_ray.api.artifacts.routes import router as artifacts
from xpo_ray.api.attempts.routes import router as drivers
from xpo_ray.api.cluster.routes import router as cluster
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.ownership import Ownership
from xpo_ray.api.database.upgrade import upgrade
from xpo_ray.api.datasets.routes import router as datasets
from xpo_ray.api.document import DescribedApi
from xpo_ray.api.document import router as document
from xpo_ray.api.events.routes import router as events
from xpo_ray.api.health.routes import router as health
from xpo_ray.api.keys.first import first_key
from xpo_ray.api.keys.routes import router as keys
from xpo_ray.api.keys.session import router as session
from xpo_ray.api.middleware import install as install_middleware
from xpo_ray.api.models.routes import router as models
from xpo_ray.api.pages.routes import router as pages
from xpo_ray.api.paging import bounded
from xpo_ray.api.query import known_query
from xpo_ray.api.runs.routes import router as runs
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings
from xpo_ray.api.webhooks.routes import router as webhooks
from xpo_ray.api.workers import Worker, workers

V1 = (runs, events, drivers, keys, session, artifacts, datasets, models, webhooks, cluster)
"""Those that are asked most stand first: a path is looked for in this order."""


def create_app(
    settings: Settings,
    *,
    services: Services | None = None,
    background: bool = True,
    on_first_key: Callable[[str], None] | None = None,
) -> FastAPI:
    """The app. Without `background` no thread works behind the routes; `on_first_key` is told the first admin key, once, when
    the database has no key yet: its text is nowhere else."""
    made = services or Services(settings, Database(settings.database))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        made.changes.bind(asyncio.get_running_loop())
        ownership = await asyncio.to_thread(_open, made, on_first_key)
        running: list[Worker] = []
        try:
            running += workers(made) if background else []
            app.state.background = running
            for each in running:
                each.start()
            yield
        finally:
            made.changes.close()
            await asyncio.to_thread(_close, made, running, ownership)

    app = DescribedApi(
        title="xpo_ray", version=__version__, lifespan=lifespan, openapi_url=None, redirect_slashes=False
    )
    app.state.services = made
    app.state.background = []
    problems.install(app)
    install_middleware(app, made)
    v1 = APIRouter(prefix="/v1", dependencies=[Depends(known_query), Depends(bounded)])
    for router in V1:
        v1.include_router(router)
    for router in (v1, health, document, pages):
        app.include_router(router)
    return app


def _open(services: Services, on_first_key: Callable[[str], None] | None) -> Ownership:
    """Own the database, bring it to this version's schema, and make the first key where there is none."""
    services.storage.mkdir(parents=True, exist_ok=True)
    ownership = Ownership.take(services.settings)
    try:
        upgrade(services.database, look_for_damage=ownership.unclean)
        secret = first_key(services)
    except BaseException:
        ownership.release()
        raise
    if secret is not None and on_first_key is not None:
        on_first_key(secret)
    return ownership


def _close(services: Services, running: list[Worker], ownership: Ownership) -> None:
    for each in reversed(running):
        each.stop()
    services.database.close()
    ownership.release()
