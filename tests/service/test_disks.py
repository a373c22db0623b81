"""A disk that is full, under a run's files or under the database: reading goes on, nothing half-written counts, and when there
is room again the run ends with the bits of an undisturbed one.

Runs with `make faults`; skipped where a tmpfs cannot be mounted.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.patience import Deadline
from tests.running import model_digest
from tests.service.disks import SmallDisk, small_disk
from tests.service.invariants import faults_of, tally
from tests.service.serving import Service, serving
from tests.service.worlds import make_world, settings_file, undisturbed

pytestmark = [pytest.mark.ray, pytest.mark.faults]
FLOOR_MIB, LEASE_S = 8, 10
MIB = 2**20


class World:
    """What the runs work on, and the result that they must have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = make_world(folder, judge_s=0.15)
        self.digest = model_digest(undisturbed(folder, self.spec))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@contextmanager
def service_on(folder: Path, storage: Path, database: Path, world: World) -> Iterator[Service]:
    """A service with its files and its database on these disks."""
    settings = settings_file(folder / "settings.yaml", disk_floor_mib=FLOOR_MIB, lease_s=LEASE_S)
    url = f"sqlite:///{database / 'xpo_ray.sqlite'}"
    with serving(storage, world.folder, "--config", str(settings), database_url=url) as made:
        yield made


def test_a_full_disk_under_the_files_ends_the_attempt_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, world: World
) -> None:
    (tmp_path / "database").mkdir()
    with (
        small_disk(tmp_path / "storage", 64) as disk,
        service_on(tmp_path, disk.folder, tmp_path / "database", world) as service,
    ):
        run_id = begun(service, world.spec)
        filled_at = fill(disk)
        run = until(service, run_id, lambda r: r["status"] == "starting" and r["attempt"] == 1)
        told_s = time.monotonic() - filled_at
        first = service.call("GET", f"/v1/runs/{run_id}/attempts").json()[0]
        assert (first["ending"], first["error"]["code"], first["error"]["kind"]) == ("died", "disk_full", "system")
        assert "when there is room" in run["waiting_for"]
        reading_goes_on(service, run_id)
        assert "under the storage folder" in readiness(service)["disk"]
        refused(service, world.spec, 507, "storage_full")
        time.sleep(5)  # longer than the wait between two attempts
        assert service.run(run_id)["attempt"] == 1
        emptied_at = empty(disk)
        until(service, run_id, lambda r: r["attempt"] == 2)
        begun_s = time.monotonic() - emptied_at
        check(service, run_id, world)
        print(f"FIGURES full files: told after {told_s:.1f} s, next attempt {begun_s:.1f} s after there was room")


def test_a_full_disk_under_the_database_refuses_writes_alone_and_the_driver_waits(tmp_path: Path, world: World) -> None:
    with (
        small_disk(tmp_path / "database", 8) as disk,
        service_on(tmp_path, tmp_path / "storage", disk.folder, world) as service,
    ):
        run_id = begun(service, world.spec)
        filled_at = fill(disk)
        known = service.run(run_id)
        refused(service, world.spec, 503, "database_unavailable")
        while time.monotonic() - filled_at < 3 * LEASE_S:
            reading_goes_on(service, run_id)
            assert service.run(run_id)["status"] == "running"
            time.sleep(1)
        assert "cannot be written" in readiness(service)["database"]
        assert service.run(run_id)["progress"] == known["progress"]
        empty(disk)
        run = check(service, run_id, world)
        assert run["attempt"] == 1  # nobody was taken for dead because its heartbeats could not be written
        assert len(service.call("GET", "/v1/runs").json()["items"]) == 1


def test_runs_leave_a_reserve_with_which_the_service_can_make_room(tmp_path: Path, world: World) -> None:
    with (
        small_disk(tmp_path / "storage", 64) as disk,
        service_on(tmp_path, disk.folder, disk.folder, world) as service,
    ):
        old = service.submit({**world.spec, "seed": 1})
        service.until(old, "succeeded")
        (service.root(old) / "attempts" / "0001" / "more").write_bytes(b"x" * 24 * MIB)
        run_id = begun(service, world.spec)
        disk.fill(leaving=MIB)  # of the floor's quarter, two
        run = until(service, run_id, lambda r: r["status"] == "starting" and r["attempt"] == 1)
        assert "the service's own" in run["waiting_for"]
        assert readiness(service)["database"] is None
        assert service.call("DELETE", f"/v1/runs/{old}").status_code == 204
        check(service, run_id, world)


def test_one_full_disk_under_both_loses_nothing_even_when_the_api_is_started_anew(tmp_path: Path, world: World) -> None:
    with (
        small_disk(tmp_path / "storage", 64) as disk,
        service_on(tmp_path, disk.folder, disk.folder, world) as service,
    ):
        run_id = begun(service, world.spec)
        fill(disk)
        time.sleep(2 * LEASE_S)
        disk.fill()
        reading_goes_on(service, run_id)
        state = readiness(service)
        assert state["disk"] is not None
        assert state["database"] is not None
        refused(service, world.spec, 507, "storage_full")
        service.kill()
        service.start(probe="/livez")
        reading_goes_on(service, run_id)
        empty(disk)
        check(service, run_id, world)


def begun(service: Service, spec: dict[str, Any]) -> str:
    """A run that has done its first step."""
    run_id = service.submit(spec)
    until(service, run_id, lambda r: r["progress"]["steps"] >= 1)
    return run_id


def until(service: Service, run_id: str, holds: Any, within_s: float = 240) -> dict[str, Any]:
    deadline = Deadline(within_s)
    while not holds(run := service.run(run_id)):
        assert deadline.ahead, f"{run}\n{service.words()}"
        assert run["status"] not in ("failed", "succeeded"), run
        time.sleep(0.2)
    return run


def fill(disk: SmallDisk) -> float:
    disk.fill()
    return time.monotonic()


def empty(disk: SmallDisk) -> float:
    disk.empty()
    return time.monotonic()


def reading_goes_on(service: Service, run_id: str) -> None:
    for path in ("", "/events?limit=5", "/attempts", "/metrics", "/checkpoints", "/samples"):
        answer = service.call("GET", f"/v1/runs/{run_id}{path}")
        assert answer.status_code == 200, answer.text
    assert service.call("GET", "/livez").status_code == 200


def readiness(service: Service) -> dict[str, Any]:
    answer = service.call("GET", "/readyz")
    assert answer.status_code == 503, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(service: Service, spec: dict[str, Any], status: int, code: str) -> None:
    """A submission is refused with a problem document that says why, and makes nothing."""
    before = service.call("GET", "/v1/runs").json()["items"]
    answer = service.call("POST", "/v1/runs", json={"spec": spec})
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "room" in answer.text or "delete" in answer.text or "retry" in answer.text
    assert [r["id"] for r in service.call("GET", "/v1/runs").json()["items"]] == [r["id"] for r in before]


def check(service: Service, run_id: str, world: World) -> dict[str, Any]:
    """The run succeeds as if nothing had been."""
    run = service.until(run_id, "succeeded", within_s=300)
    assert faults_of(service.storage, service.database_url, run_id) == []
    root = service.root(run_id)
    assert model_digest(root / "attempts" / f"{run['attempt']:04d}") == world.digest
    cost = tally(root)
    print(f"\nFIGURES {cost}")
    assert (cost.drawn_again, cost.twice_in_lineage) == (0, 0)
    return run
