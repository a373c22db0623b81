"""Verdicts are kept by all that decides them; nothing about a cache fails a run."""

from pathlib import Path

import pytest

from xpo_ray.kept_verdicts import FOLDER, KeptVerdicts


def test_a_verdict_is_found_under_its_own_key(tmp_path: Path) -> None:
    verdicts = KeptVerdicts(tmp_path / "verdicts")
    assert verdicts.find(["a", 1]) is None
    verdicts.keep(["a", 1], "well")
    assert (verdicts.find(["a", 1]), verdicts.find(["a", 2])) == ("well", None)
    assert [file.suffix for file in verdicts.folder.iterdir()] == [".json"]


def test_a_damaged_verdict_is_as_if_there_were_none(tmp_path: Path) -> None:
    verdicts = KeptVerdicts(tmp_path)
    verdicts.keep(["a"], "well")
    next(tmp_path.iterdir()).write_text("[")
    assert verdicts.find(["a"]) is None


def test_a_folder_that_cannot_be_written_fails_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    verdicts = KeptVerdicts(tmp_path / "file" / "verdicts")
    verdicts.keep(["a"], "well")
    assert verdicts.find(["a"]) is None
    assert (tmp_path / "file").read_text() == ""


def test_the_folder_is_in_the_users_cache_or_where_a_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "own"))
    assert KeptVerdicts.of_user().folder == tmp_path / "own"
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert KeptVerdicts.of_user().folder == tmp_path / "xpo_ray" / "verdicts"
