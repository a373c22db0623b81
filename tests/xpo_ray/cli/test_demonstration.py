"""`xpo-ray demo`: what it says where the real model is not there, and how answers before and after look."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from xpo_ray.cli.demonstration import coloured, real_model, run_demo, side_by_side
from xpo_ray.errors import OutputError


def _console() -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=100), written


def test_without_the_real_model_it_says_so_and_takes_the_made_up_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    console, written = _console()
    assert real_model(console) is None
    said = " ".join(written.getvalue().split())
    assert "SmolLM2-135M-Instruct was not fetched (`make real-model`" in said
    assert "comparison in a made-up world" in said


def test_with_the_real_model_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "xpo_ray" / "smollm2-135m-instruct"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    console, written = _console()
    assert real_model(console) == folder
    assert written.getvalue() == ""


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(OutputError, match="is not empty"):
        run_demo(tmp_path, compare=True)


def test_a_question_stands_above_its_two_answers_with_their_scores() -> None:
    console, written = _console()
    row = {"prompt": [{"role": "user", "content": "How was it?"}], "score": -0.5, "response": "Bad\x1b[31m."}
    console.print(side_by_side(row, row | {"score": None, "response": "[bold]Good[/]."}))
    question, head, answers = written.getvalue().splitlines()
    assert question.strip() == "How was it?"
    assert head.split() == ["before", "-0.50", "after"]
    assert answers.split() == ["Bad\ufffd[31m.", "[bold]Good[/]."]


def test_whole_words_that_the_judge_went_by_are_coloured() -> None:
    text = coloured("A good day, not a bad one, for badminton.")
    marked = {text.plain[span.start : span.end]: span.style for span in text.spans}
    assert marked == {"good": "green", "bad": "red"}
