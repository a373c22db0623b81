"""A Ray that is late is waited for, and its sockets have room."""

from pathlib import Path
from typing import Any

import pytest

from xpo_ray.actors.ray_start import PATIENT, TRIES, begun, session_folder
from xpo_ray.errors import RayNotStarted, SpecError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `begun` sets is taken back."""
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)


class Late:
    """A `ray.init` that is late some times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error = times, error
        self.calls = self.stopped = 0

    def __call__(self, **options: Any) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return f"connected to {options['address']}"

    def stop(self) -> None:
        self.stopped += 1


def test_a_ray_that_is_late_is_begun_anew() -> None:
    late = Late(TRIES - 1, TimeoutError("the node timed out during startup"))
    assert begun(late, late.stop, address="local") == "connected to local"
    assert (late.calls, late.stopped) == (TRIES, TRIES - 1)


def test_one_that_never_comes_is_told_with_how_long_it_was_waited_for_and_the_remedy() -> None:
    late = Late(99, Exception("Failed to get the system config from raylet"))
    with pytest.raises(RayNotStarted, match=rf"a local Ray did not start: tried {TRIES} times in \d+ s.*--resume"):
        begun(late, late.stop, address="local")


def test_a_fault_of_another_kind_is_raised_at_once() -> None:
    late = Late(99, ValueError("no such option"))
    with pytest.raises(ValueError, match="no such option"):
        begun(late, late.stop, address="local")
    assert late.calls == 1


def test_a_long_tmpdir_gets_a_short_folder_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    assert session_folder() is None
    monkeypatch.setattr("tempfile.tempdir", "/tmp/" + "a" * 90)
    found = session_folder((str(tmp_path),))
    assert found is not None
    assert Path(found).parent == tmp_path
    assert Path(found).stat().st_mode & 0o077 == 0
    assert session_folder((str(tmp_path),)) == found


def test_where_no_short_folder_can_be_written_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/" + "a" * 90)
    with pytest.raises(SpecError, match="set RAY_TMPDIR to a folder of at most"):
        session_folder((str(tmp_path / "missing"),))
