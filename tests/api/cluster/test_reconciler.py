"""When the reconciler looks: at once where there is something to be done, each second while runs are under way, else seldom."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from tests.api.cluster.raylike import RayLike, raylike
from tests.api.conftest import Headers
from tests.api.rows import add_attempt, add_run
from tests.patience import Deadline
from xpo_ray.api.cluster import logs, reconciler
from xpo_ray.api.cluster.link import Link
from xpo_ray.api.cluster.reconciler import EVERY_S, IDLE_S, Reconciler
from xpo_ray.api.cluster.worker import ReconcilerThread
from xpo_ray.api.database.tables import Attempt, Run
from xpo_ray.api.runs.queue import admit_waiting
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings


@pytest.fixture
def ray() -> Iterator[RayLike]:
    with raylike() as made:
        yield made


@pytest.fixture
def settings(settings: Settings, ray: RayLike) -> Settings:
    return settings.model_copy(update={"ray_address": ray.address})


@pytest.fixture
def owner(api: TestClient, submitter: Headers, services: Services) -> str:
    services.clock = lambda: datetime.now(UTC)
    return str(api.get("/v1/keys/self", headers=submitter).json()["id"])


def until(true: Callable[[], bool], within_s: float = 30) -> None:
    deadline = Deadline(within_s)
    while not true():
        assert deadline.ahead
        time.sleep(0.01)


def status(services: Services, run_id: str) -> str:
    with services.database.read() as session:
        return session.get_one(Run, run_id).status


def test_a_look_at_nothing_may_be_followed_by_a_long_rest_and_one_at_a_run_may_not(
    services: Services, ray: RayLike, owner: str
) -> None:
    turns = Reconciler(services, Link(services), admit_waiting)
    assert turns.turn() == IDLE_S
    add_run(services, "run_a", owner, status="queued", secrets=[])
    services.run_folder("run_a").mkdir(parents=True)
    assert turns.turn() == EVERY_S
    assert (status(services, "run_a"), ray.jobs) == ("starting", {"run_a-1": "PENDING"})
    add_run(services, "run_b", owner, status="paused")
    with services.database.write() as session:
        session.delete(session.get_one(Run, "run_a"))
    assert turns.turn() == EVERY_S, "its job runs on"
    ray.jobs = {"run_a-1": "STOPPED", "raysubmit_of_somebody": "RUNNING"}
    assert turns.turn() == IDLE_S


def test_news_is_followed_at_once_and_the_progress_of_a_run_is_not(
    services: Services, ray: RayLike, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "IDLE_S", 3600.0)
    thread = ReconcilerThread(services)
    thread.start()
    try:
        until(lambda: thread.view.alive)
        looks = ray.looks
        for _ in range(50):
            services.changes.tell("run_z", progress=True)
        add_run(services, "run_a", owner, status="queued", secrets=[])
        services.run_folder("run_a").mkdir(parents=True)
        assert ray.looks == looks == 1
        services.changes.tell("run_a")
        until(lambda: "run_a-1" in ray.jobs)
    finally:
        thread.stop()
    assert status(services, "run_a") == "starting"


def test_a_submission_a_pause_and_a_resume_are_news(
    services: Services, api: TestClient, submitter: Headers, owner: str
) -> None:
    woken: list[int] = []
    services.changes.listen(lambda: woken.append(1))
    add_run(services, "run_a", owner, status="queued")
    for command in ("pause", "resume", "cancel"):
        before = len(woken)
        assert api.post(f"/v1/runs/run_a/{command}", headers=submitter).status_code == 200
        assert len(woken) > before, command


def test_a_run_whose_folder_cannot_be_made_says_so_and_keeps_nobody_waiting(
    services: Services, ray: RayLike, owner: str
) -> None:
    turns = Reconciler(services, Link(services), admit_waiting)
    in_the_way = services.run_folder("run_a")
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("no folder")
    for run_id in ("run_a", "run_b"):
        add_run(services, run_id, owner, status="queued", secrets=[], cpus=0.0)
    turns.turn()
    turns.turn()
    assert ray.jobs == {"run_b-1": "PENDING"}
    with services.database.read() as session:
        run = session.get_one(Run, "run_a")
    assert run.status == "starting"
    assert (run.waiting_for or "").startswith("its folder cannot be written: ")
    in_the_way.unlink()
    turns.turn()
    assert set(ray.jobs) == {"run_a-1", "run_b-1"}
    assert (in_the_way / "run.json").is_file()


def test_ray_forgets_jobs_that_ended_long_ago_and_those_of_deleted_runs_and_no_others(
    services: Services, ray: RayLike, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "JOBS_LEFT", 2)
    monkeypatch.setattr(logs, "EVERY_S", 0.0)
    turns = Reconciler(services, Link(services), admit_waiting)
    for number in range(5):
        add_run(services, f"run_{number}", owner, status="succeeded")
        add_attempt(services, f"run_{number}", 1)
    with services.database.write() as session:
        for number in range(5):
            at = services.clock() + timedelta(seconds=number)
            session.get_one(Attempt, (f"run_{number}", 1)).ended_at = at
    others = {"raysubmit_of_somebody": "SUCCEEDED", "run_of_another_service-1": "FAILED"}
    ray.jobs = {f"run_{number}-1": "SUCCEEDED" for number in range(5)} | others
    turns.turn()
    turns.turn()
    assert set(ray.jobs) == {"run_3-1", "run_4-1", *others}
    with services.database.write() as session:
        session.delete(session.get_one(Run, "run_4"))
    turns.turn()
    assert set(ray.jobs) == {"run_3-1", *others}
