"""A rehearsal has a process of its own, and its verdict is kept for the next run of the same model."""

from pathlib import Path

import pytest

from tests.tiny import tiny_model_folder
from tests.xpo_ray.model_checks.test_model_checks import rewritten, spec_of
from xpo_ray.errors import ModelError
from xpo_ray.kept_verdicts import KeptVerdicts
from xpo_ray.rehearsal.launch import OFF, check_rehearsal, key_of, rehearse
from xpo_ray.rehearsal.request import Verdict


@pytest.fixture(autouse=True)
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OFF)


def test_the_process_answers_and_its_verdict_is_kept(tmp_path: Path) -> None:
    spec, verdicts = spec_of(tiny_model_folder(tmp_path / "model")), KeptVerdicts(tmp_path / "verdicts")
    assert check_rehearsal(spec, verdicts) == {}
    assert rehearse(spec, verdicts, limit_s=0.0) == Verdict("ok")  # no process could answer in that time


def test_a_refusal_names_the_model_and_is_kept_until_the_folder_changes(tmp_path: Path) -> None:
    folder, verdicts = tiny_model_folder(tmp_path / "model"), KeptVerdicts(tmp_path / "verdicts")
    rewritten(folder, without="model.norm")
    for _ in range(2):
        with pytest.raises(ModelError, match=r"model.path .*: the weights lack model.norm.weight"):
            check_rehearsal(spec_of(folder), verdicts)
    tiny_model_folder(folder)
    assert rehearse(spec_of(folder), verdicts, limit_s=0.0).outcome == "not_rehearsed"


def test_a_process_that_takes_too_long_refuses_nothing_and_is_asked_again(tmp_path: Path) -> None:
    spec, verdicts = spec_of(tiny_model_folder(tmp_path / "model")), KeptVerdicts(tmp_path / "verdicts")
    verdict = rehearse(spec, verdicts, limit_s=0.0)
    assert (verdict.outcome, "took longer than" in verdict.reason) == ("not_rehearsed", True)
    assert not (tmp_path / "verdicts").exists()


def test_rehearsals_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OFF, "1")
    assert check_rehearsal(spec_of(tmp_path), KeptVerdicts(tmp_path)) == {}


def test_what_was_not_rehearsed_is_a_warning(tmp_path: Path) -> None:
    spec, verdicts = spec_of(tiny_model_folder(tmp_path / "model")), KeptVerdicts(tmp_path / "verdicts")
    verdicts.keep(key_of(spec), Verdict("not_rehearsed", "its config could not be cut down").to_json())
    told = check_rehearsal(spec, verdicts)["not_rehearsed"]
    assert "was not rehearsed, because its config could not be cut down; the run shows whether it works" in told


def test_what_is_no_verdict_is_not_taken_for_one() -> None:
    assert Verdict.of_json("nothing that a process should say") is None
    assert Verdict.of_json('{"outcome": "perhaps", "reason": ""}') is None
