"""The crash-point sweep of the service: SIGKILL between any two words of client, API, database, Ray and driver.

Each case starts the API with one point armed, meets the kill, starts the API again, and holds the run to what every run is held
to. Runs with `make faults` and prints its figures.
"""

import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import Deadline
from tests.service.recovery import Disturbance, World, recovered
from tests.service.serving import Ended, Service, serving
from xpo_ray.crashpoints import SERVICE_POINTS
from xpo_ray.run_states import FINAL

pytestmark = [pytest.mark.ray, pytest.mark.faults]
OF_DRIVERS = tuple(p for p in SERVICE_POINTS if p.startswith("driver."))
COUNTS = {
    "database.before_commit": (1, 4, 9, 16),
    "database.after_commit": (1, 4, 9, 16),
    "journal.after_store": (1, 4),
}
"""How often a point is passed before the kill, where that may differ."""
CASES = [(p, n) for p in SERVICE_POINTS if p not in OF_DRIVERS for n in COUNTS.get(p, (1,))]


@pytest.mark.parametrize(("point", "n"), CASES, ids=[f"{point}:{n}" for point, n in CASES])
def test_a_kill_of_the_api_at_every_word_loses_nothing(
    watched_service: Service, slow_world: World, tmp_path: Path, point: str, n: int
) -> None:
    service, mark = watched_service, tmp_path / "mark"
    runs = len(service.call("GET", "/v1/runs").json()["items"])
    arm(service, XPO_CRASH_AT=f"{point}:{n}", XPO_CRASH_MARK=str(mark))
    run_id = submitted(service, slow_world.spec, f"{point}:{n}")
    until_final(service, run_id)
    passed = mark.with_name(f"mark.{point}")
    assert passed.exists(), f"{point} was never passed {n} times"
    recovered(service, slow_world, Disturbance(f"{point}:{n}", run_id, 1, passed.stat().st_mtime))
    assert len(service.call("GET", "/v1/runs").json()["items"]) == runs + 1


def test_a_driver_that_dies_at_each_of_its_words_is_followed_by_the_next(
    slow_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run, whose attempts die at one point each: drivers have the environment of Ray's head."""
    mark = tmp_path / "mark"
    monkeypatch.setenv("XPO_CRASH_AT", ",".join(f"{point}:1" for point in OF_DRIVERS))
    monkeypatch.setenv("XPO_CRASH_MARK", str(mark))
    with serving(tmp_path / "storage", slow_world.folder, "--lease-s", "10") as service:
        run_id = submitted(service, slow_world.spec, "once", secrets=[])
        run = service.until(run_id, "succeeded", within_s=300)
        passed = [mark.with_name(f"mark.{point}") for point in OF_DRIVERS]
        assert all(p.exists() for p in passed)
        assert run["attempt"] == len(OF_DRIVERS)
        recovered(service, slow_world, Disturbance(" ".join(OF_DRIVERS), run_id, 1, passed[0].stat().st_mtime))


def arm(service: Service, **environment: str) -> None:
    """Start the API anew; it dies at its point once, perhaps already now."""
    service.kill()
    try:
        service.start(**environment)
    except Ended:
        revive(service)


def submitted(service: Service, spec: dict[str, Any], key: str, secrets: list[str] | None = None) -> str:
    """Submit as a client does whose answer may get lost: again, with the same key."""
    body = {"spec": spec, "secrets": ["HIDDEN"] if secrets is None else secrets}
    while True:
        try:
            answer = service.call("POST", "/v1/runs", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            revive(service)
            continue
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])


def until_final(service: Service, run_id: str, within_s: float = 240) -> None:
    """Wait for the end of a run; a service that died at its point is started again, without one."""
    deadline = Deadline(within_s)
    while deadline.ahead:
        try:
            if service.run(run_id)["status"] in FINAL:
                return
        except httpx.TransportError:
            revive(service)
        time.sleep(0.3)
    raise AssertionError(f"{service.run(run_id)}\n{service.words()}")


def revive(service: Service) -> None:
    """Start the service again after its kill."""
    assert service.process is not None
    assert service.process.wait(30) == -signal.SIGKILL, service.words()
    service.start()
