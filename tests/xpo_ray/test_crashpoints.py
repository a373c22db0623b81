"""Crash points: dead letters in production, SIGKILL where a fault test asks for it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from xpo_ray.crashpoints import GROUP_POINTS, POINTS, SERVICE_POINTS, crash_point

ROOT = Path(__file__).parents[2]
PASS = "import sys; from xpo_ray.crashpoints import crash_point; [crash_point(p) for p in sys.argv[1:]]; print('lived')"


def passing(*points: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that passes these points in turn."""
    command = [sys.executable, "-c", PASS, *points]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("XPO_")}
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False, timeout=60)


def test_without_the_variable_a_crash_point_does_nothing() -> None:
    assert "XPO_CRASH_AT" not in os.environ
    for point in POINTS:
        crash_point(point)


def test_a_process_dies_the_nth_time_that_it_passes_the_point() -> None:
    point = "step.after_step"
    assert passing(point, point, XPO_CRASH_AT=f"{point}:3").stdout == "lived\n"
    killed = passing(point, "table.after_data", point, point, XPO_CRASH_AT=f"{point}:3")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "")


def test_other_points_do_not_count() -> None:
    assert passing("table.after_data", "table.after_commit", XPO_CRASH_AT="table.before_data:1").stdout == "lived\n"


def test_each_of_several_points_may_be_the_last() -> None:
    wanted = "table.after_data:2,step.after_step:1"
    assert passing("table.after_data", XPO_CRASH_AT=wanted).stdout == "lived\n"
    assert passing("table.after_data", "step.after_step", XPO_CRASH_AT=wanted).returncode == -signal.SIGKILL


def test_with_a_mark_it_happens_once_in_the_life_of_a_test(tmp_path: Path) -> None:
    environment = {"XPO_CRASH_AT": "step.after_step:1", "XPO_CRASH_MARK": str(tmp_path / "mark")}
    assert passing("step.after_step", **environment).returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == ["mark.step.after_step"]
    assert passing("step.after_step", **environment).stdout == "lived\n"


def test_a_point_may_end_the_driver_and_leave_its_own_process_alive() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as driver:
        environment = {"XPO_CRASH_AT": "table.after_commit:1:driver", "XPO_DRIVER_PID": str(driver.pid)}
        assert passing("table.after_commit", **environment).stdout == "lived\n"
        assert driver.wait(timeout=30) == -signal.SIGKILL


def test_every_listed_point_is_passed_in_the_code_and_every_passed_point_is_listed() -> None:
    sources = [file for room in ("xpo_ray", "actors", "api") for file in (ROOT / room).rglob("*.py")]
    passed = {p for source in sources for p in re.findall(r'crash_point\("([^"]+)"\)', source.read_text())}
    assert passed == {*POINTS, *SERVICE_POINTS, *GROUP_POINTS}
