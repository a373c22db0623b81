"""Which folders are runs, and in what state."""

from pathlib import Path

import pytest

from tests.xpo_ray.report.folders import attempt_in, small_run
from xpo_ray.errors import OutputError
from xpo_ray.report.folder import RunFolder
from xpo_ray.reporting import RunFinished, RunStarted


def test_a_folder_that_is_no_run_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no run\.json; name the folder in a run's output\.path"):
        RunFolder.open(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OutputError, match="without attempts"):
        RunFolder.open(tmp_path)


def test_a_finished_run_has_succeeded(tmp_path: Path) -> None:
    run = RunFolder.open(small_run(tmp_path))
    assert (run.status, run.name, run.beta(1)) == ("succeeded", "by-hand", 0.5)
    assert run.result is not None
    assert run.tier == "exact"


def test_a_run_whose_driver_lives_is_running_and_one_whose_driver_was_killed_is_stopped(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunStarted("run_x", 1, 2, 4))
        assert RunFolder.open(tmp_path).status == "running"
    assert RunFolder.open(tmp_path).status == "stopped"


def test_a_failure_is_told_until_the_next_attempt_begins(tmp_path: Path) -> None:
    with attempt_in(tmp_path) as run:
        run.tell(RunFinished("failed", 1.0, 0, error="Boom: it broke"))
        assert RunFolder.open(tmp_path).status == "failed"  # though its driver still lives
    with attempt_in(tmp_path, resume=True):
        assert RunFolder.open(tmp_path).status == "running"  # its journal is empty yet


def test_looking_at_a_run_leaves_its_lock_to_the_next_driver(tmp_path: Path) -> None:
    with attempt_in(tmp_path):
        pass
    seen = RunFolder.open(tmp_path)
    assert seen.status == "stopped"
    with attempt_in(tmp_path, resume=True) as run:
        assert run.attempt.number == 2
