"""The status machine under random orders of events: alone on SQLite, by four threads at once on both databases."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from tests.api.conftest import Headers
from tests.api.runs.walking import Walk, check_history, walkable
from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Key
from xpo_ray.api.services import Services
from xpo_ray.wire.keys import Quotas


@pytest.fixture
def caller(services: Services, admin: Headers) -> Principal:
    assert admin
    with services.database.read() as session:
        key = session.scalars(select(Key)).one()
    return Principal(key_id=key.id, name=key.name, scopes=frozenset({"admin"}), quotas=Quotas(), by="key")


@pytest.mark.parametrize("seed", range(3))
def test_every_walk_keeps_to_the_arrows_and_leaves_a_log_without_gaps(
    services: Services, caller: Principal, seed: int
) -> None:
    runs = walkable(services, caller.key_id, 12)
    walk = Walk(services, caller, runs, random.Random(seed))
    for _ in range(300):
        walk.step()
    paths = [check_history(services, run_id) for run_id in runs]
    assert sum(map(len, paths)) > 3 * len(runs)
    assert walk.refused < 300


def test_threads_that_walk_over_the_same_runs_leave_one_history(
    services: Services,
    caller: Principal,
    both_databases: str,  # noqa: ARG001
) -> None:
    runs = walkable(services, caller.key_id, 6)

    def walk(seed: int) -> int:
        walker = Walk(services, caller, runs, random.Random(seed))
        for _ in range(60):
            walker.step()
        return walker.refused

    with ThreadPoolExecutor(4) as pool:
        assert all(refused < 60 for refused in pool.map(walk, range(4)))
    assert sum(len(check_history(services, run_id)) for run_id in runs) > 2 * len(runs)
