"""The demo's own questions: well-formed, different from each other, and short enough for its spec."""

import json
from pathlib import Path

import pytest

from xpo_ray.demo.positivity import score
from xpo_ray.demo.questions import write_questions
from xpo_ray.demo.real_model import cached_model
from xpo_ray.demo.recipes import real_spec
from xpo_ray.preparation import prepare
from xpo_ray.spec.loading import resolve

LEAST_MARGIN = 0.3


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def _words(question: str) -> str:
    return " ".join(question.lower().strip(" ?.!").split())


def test_no_question_stands_twice_nor_on_both_sides(tmp_path: Path) -> None:
    counts = write_questions(tmp_path)
    train, held_out = _rows(tmp_path, "train.jsonl"), _rows(tmp_path, "test.jsonl")
    assert counts == (len(train), len(held_out))
    questions = [_words(row["prompt"]) for row in (*train, *held_out)]
    assert len(set(questions)) == len(questions)


def test_each_pair_is_clear_to_the_judge_and_no_answer_stands_twice(tmp_path: Path) -> None:
    write_questions(tmp_path)
    rows = _rows(tmp_path, "train.jsonl")
    answers = [answer for row in rows for answer in (row["chosen"], row["rejected"])]
    assert len(set(answers)) == len(answers)
    for row in rows:
        assert set(row) == {"prompt", "chosen", "rejected"}
        chosen, rejected = score([], [row["chosen"], row["rejected"]])
        assert chosen - rejected > LEAST_MARGIN, row


def test_all_questions_and_answers_lie_within_the_limits_of_the_spec(tmp_path: Path) -> None:
    if (model := cached_model()) is None:
        pytest.skip("the real model was not fetched; `make real-model` does it")
    train, held_out = write_questions(tmp_path)
    raw = real_spec(model)
    raw["data"]["max_response_tokens"] = raw["sampling"]["max_new_tokens"]
    prepared = prepare(resolve(raw, (), tmp_path), tmp_path)
    assert prepared.held_out is not None
    kept, asked = prepared.prompts.counts(), prepared.held_out.counts()
    assert (kept["kept"], kept["dropped_overlong"], kept["cut_responses"]) == (train, 0, 0)
    assert (asked["kept"], asked["dropped_overlong"]) == (held_out, 0)
