"""The fault suite of the service: kill one part of it in the middle of a run, and look whether anything was lost or done twice.

Runs with `make faults` and prints its figures; tests/api/cluster has the short form.
"""

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.service.recovery import World, begun, recovered, struck
from tests.service.serving import Service, actor_pid, driver_pid, kill, processes

pytestmark = [pytest.mark.ray, pytest.mark.faults]


def of_run(role: str) -> Callable[[Service, str], None]:
    """Kills an actor of the run."""
    return lambda service, run_id: kill(actor_pid(service, run_id, role))


def the_driver(service: Service, run_id: str) -> None:
    kill(driver_pid(service, run_id))


def the_supervisor(service: Service, run_id: str) -> None:
    """Ray's own actor that watches over the job of the run's attempt."""
    [pid] = [a["pid"] for a in service.actors() if a["state"] == "ALIVE" and f"job_actor_{run_id}" in (a["name"] or "")]
    kill(pid)


def the_head(service: Service, _run_id: str) -> None:
    """The process that leads the head's session, and its Ray with it; no other Ray on this machine."""
    head = json.loads((service.storage / "ray" / "head.json").read_text())
    os.killpg(head["pid"], signal.SIGKILL)
    for pid in processes(head["folder"] + "/"):
        kill(pid)


def the_api(service: Service, _run_id: str) -> None:
    service.kill()
    time.sleep(1.0)
    service.start()


def the_api_for_long(service: Service, _run_id: str) -> None:
    service.kill()
    time.sleep(60.0)
    service.start()


STRIKES: dict[str, Callable[[Service, str], None]] = {
    "driver": the_driver,
    "engine": of_run("policy/0"),
    "judge": of_run("judge/0"),
    "trainer": of_run("trainer"),
    "clerk": of_run("clerk/0"),
    "supervisor": the_supervisor,
    "head": the_head,
    "api": the_api,
    "api for a minute": the_api_for_long,
}


@pytest.mark.parametrize("victim", STRIKES)
def test_a_kill_of_any_part_loses_nothing(watched_service: Service, slow_world: World, victim: str) -> None:
    run_id = begun(watched_service, slow_world.spec)
    strike = struck(watched_service, run_id, victim)
    STRIKES[victim](watched_service, run_id)
    assert recovered(watched_service, slow_world, strike)["status"] == "succeeded"
