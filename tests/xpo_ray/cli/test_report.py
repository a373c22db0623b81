"""`xpo-ray report` as a user calls it."""

from pathlib import Path

from tests.running import xpo_ray
from tests.xpo_ray.report.folders import small_run


def test_the_command_writes_the_report_and_prints_its_path(tmp_path: Path) -> None:
    root = small_run(tmp_path / "run")
    other = small_run(tmp_path / "other", name="other")
    ended = xpo_ray("report", root, "--against", other, "--output", tmp_path / "r.html")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == str(tmp_path / "r.html")
    assert "by-hand minus other" in (tmp_path / "r.html").read_text()


def test_a_folder_that_is_no_run_is_bad_input(tmp_path: Path) -> None:
    ended = xpo_ray("report", tmp_path)
    assert ended.returncode == 2
    assert "no run.json" in ended.stderr
    assert list(tmp_path.iterdir()) == []
