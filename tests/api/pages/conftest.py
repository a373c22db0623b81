"""A real Chromium on the real service."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser

from tests.api.clock import SettableClock
from tests.api.conftest import Headers, MakeKey
from tests.api.pages.serving import Served
from tests.api.pages.visiting import Visit
from xpo_ray.api.app import create_app
from xpo_ray.api.changes import Changes
from xpo_ray.api.services import Services

Visits = Callable[..., Visit]


@pytest.fixture
def clock() -> SettableClock:
    """The browser has a clock of its own: the service's stands at the same time."""
    made = SettableClock()
    made.at = datetime.now(UTC)
    return made


@pytest.fixture
def served(services: Services) -> Iterator[Served]:
    """The service on a port, without its background threads."""

    def app() -> FastAPI:
        services.changes = Changes()
        return create_app(services.settings, services=services, background=False)

    running = Served(app)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def visit(chromium: Browser, served: Served, admin: Headers, make_headers: MakeKey) -> Iterator[Visits]:
    """visit("/runs/run_1", width=390, scopes=("read",)): a page, logged in; without scopes as the admin."""
    open_now: list[Visit] = []

    def visited(path: str, *, scopes: tuple[str, ...] = (), width: int = 1280, scheme: str = "light") -> Visit:
        headers = make_headers(*scopes) if scopes else admin
        visit = Visit(chromium, served.url, headers["Authorization"].removeprefix("Bearer "), width, scheme)
        open_now.append(visit)
        visit.go(path)
        return visit

    yield visited
    for visit in open_now:
        visit.close()
