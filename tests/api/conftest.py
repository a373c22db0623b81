"""The service for tests: on SQLite; and on PostgreSQL too where a test asks for `both_databases`. The clock stands still."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api import postgres
from tests.api.clock import SettableClock
from xpo_ray.api.app import create_app
from xpo_ray.api.database.connection import Database
from xpo_ray.api.database.upgrade import upgrade
from xpo_ray.api.keys.store import make_key
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Limits, Settings
from xpo_ray.wire.keys import NewKey, Quotas, Scope

Headers = dict[str, str]
MakeKey = Callable[..., Headers]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "both_databases" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("database_kind", kinds, indirect=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    with postgres.server(programs) as running:
        yield running


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def both_databases(database_kind: str) -> str:
    """A test with this argument runs once on each."""
    return database_kind


@pytest.fixture
def database_url(database_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database."""
    if database_kind == "sqlite":
        (tmp_path / "storage").mkdir(exist_ok=True)
        yield f"sqlite:///{tmp_path / 'storage' / 'xpo_ray.sqlite'}"
        return
    server: postgres.Server = request.getfixturevalue("postgres_server")
    with server.database() as url:
        yield url


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """Settings without narrow limits; a test that wants others takes `settings.model_copy(update=…)`."""
    return Settings(
        storage=tmp_path / "storage",
        database_url=database_url,
        disk_floor_mib=0,
        ray_address="http://127.0.0.1:9",  # nobody listens there: these tests start no Ray
        limits=Limits(requests_per_minute=100_000),
    )


@pytest.fixture
def services(settings: Settings, clock: SettableClock) -> Iterator[Services]:
    """The service's parts, on a database with all tables."""
    made = Services(settings, Database(settings.database), clock=clock)
    made.storage.mkdir(parents=True, exist_ok=True)
    upgrade(made.database)
    yield made
    made.database.close()


@pytest.fixture
def make_headers(services: Services) -> MakeKey:
    """make_headers("submit", "read", quotas=Quotas(active_runs=1)): the headers of a new key."""

    def made(*scopes: Scope, quotas: Quotas | None = None, name: str = "test", days: float | None = None) -> Headers:
        asked = NewKey(name=name, scopes=list(scopes), quotas=quotas or Quotas(), expires_in_days=days)
        with services.database.write() as session:
            return {"Authorization": f"Bearer {make_key(session, asked, services.clock()).secret}"}

    return made


@pytest.fixture
def admin(make_headers: MakeKey) -> Headers:
    return make_headers("admin", name="admin")


@pytest.fixture
def submitter(make_headers: MakeKey) -> Headers:
    return make_headers("submit", name="submitter")


@pytest.fixture
def reader(make_headers: MakeKey) -> Headers:
    return make_headers("read", name="reader")


@pytest.fixture
def labeler(make_headers: MakeKey) -> Headers:
    return make_headers("label", name="labeler")


@pytest.fixture
def api(services: Services, admin: Headers) -> Iterator[TestClient]:
    """The app, started, without background threads; a call has no key until it is given one of the headers."""
    assert admin, "made first: without any key the app would make one"
    with TestClient(create_app(services.settings, services=services, background=False), "http://127.0.0.1") as client:
        yield client
