"""The fault suite of the service: parts of a run that are not dead but stand still, by SIGSTOP; and the one that wakes up again
when another has its place.

Runs with `make faults` and prints its figures; tests/actors/test_watchdog.py has the rule and a short case.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.patience import Deadline
from tests.service.recovery import LEASE_S, World, begun, reasons, recovered, struck
from tests.service.serving import Service, actor_pid, driver_pid, lives

pytestmark = [pytest.mark.ray, pytest.mark.faults]
HUNG_AFTER_S = 5
JUDGE = {"timeout_s": 60.0, "retries": 2}
"""A judge's own time limits let it take half an hour for the 8 prompts of a shard; it is known by its pulse."""


@pytest.mark.parametrize("role", ["policy/0", "base/0", "judge/0", "trainer", "clerk/0"])
def test_a_stopped_actor_is_taken_for_dead_and_its_work_done_by_another(
    watched_service: Service, slow_world: World, role: str
) -> None:
    spec = slow_world.spec_with(resources={"hung_after_s": HUNG_AFTER_S}, judge=JUDGE)
    run_id = begun(watched_service, spec)
    pid = actor_pid(watched_service, run_id, role)
    strike = struck(watched_service, run_id, f"{role} stopped")
    os.kill(pid, signal.SIGSTOP)
    run = recovered(watched_service, slow_world, strike)
    assert run["attempt"] == 1
    assert any(r.startswith(f"{role}: ") and "has not answered" in r for r in reasons(watched_service, run_id))
    assert ended(pid)


def test_a_stopped_driver_is_superseded_and_publishes_nothing_when_it_wakes(
    watched_service: Service, slow_world: World
) -> None:
    run_id = begun(watched_service, slow_world.spec)
    pid = driver_pid(watched_service, run_id)
    strike = struck(watched_service, run_id, "driver stopped")
    os.kill(pid, signal.SIGSTOP)
    second = watched_service.root(run_id) / "attempts" / "0002"
    wait_for(second / "attempt.json", within_s=LEASE_S + 60)
    seen = (second / "adopted.json").read_bytes()
    os.kill(pid, signal.SIGCONT)
    assert ended(pid)
    run = recovered(watched_service, slow_world, strike)
    assert run["attempt"] == 2
    assert (second / "adopted.json").read_bytes() == seen
    first = second.with_name("0001")
    assert not (first / "model").exists()
    assert not (first / "result.json").exists()
    assert [a["ending"] for a in attempts(watched_service, run_id)] == ["died", "succeeded"]


def test_a_stopped_api_takes_nobody_for_dead_when_it_wakes(watched_service: Service, slow_world: World) -> None:
    run_id = begun(watched_service, slow_world.spec)
    strike = struck(watched_service, run_id, "api stopped")
    assert watched_service.process is not None
    os.kill(watched_service.process.pid, signal.SIGSTOP)
    time.sleep(2 * LEASE_S)
    os.kill(watched_service.process.pid, signal.SIGCONT)
    assert recovered(watched_service, slow_world, strike)["attempt"] == 1


def attempts(service: Service, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.call("GET", f"/v1/runs/{run_id}/attempts").json()
    return sorted(found, key=lambda a: int(a["number"]))


def ended(pid: int, within_s: float = 60) -> bool:
    """Whether a process ends."""
    deadline = Deadline(within_s)
    while lives(pid) and deadline.ahead:
        time.sleep(0.2)
    return not lives(pid)


def wait_for(path: Path, within_s: float) -> None:
    deadline = Deadline(within_s)
    while not path.exists():
        assert deadline.ahead, f"no {path}"
        time.sleep(0.1)
