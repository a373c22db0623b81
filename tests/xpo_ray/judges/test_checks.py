"""Checks of judges before a run: every member of an ensemble is looked at, and what decides the result is hashed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from transformers import AutoConfig, AutoModelForSequenceClassification

from tests.tiny import tiny_model_folder
from xpo_ray.errors import JudgeError
from xpo_ray.judges.checks import check_judge, content_digest, judge_digest
from xpo_ray.spec.judge import JudgeSpec

PYTHON = {"kind": "python", "function": "my_rewards:score"}
ACTOR = {"kind": "actor", "name": "mine"}
SOURCE = "def score(prompt, responses):\n    return [1.0 for _ in responses]\n"


def judge_of(*kinds: dict[str, Any]) -> JudgeSpec:
    raw = kinds[0] if len(kinds) == 1 else {"kind": "ensemble", "members": [{"judge": kind} for kind in kinds]}
    return TypeAdapter[JudgeSpec](JudgeSpec).validate_python(raw)


@pytest.fixture
def reward(tmp_path: Path) -> dict[str, Any]:
    folder = tiny_model_folder(tmp_path / "reward")
    config = AutoConfig.from_pretrained(folder, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return {"kind": "reward_model", "path": str(folder)}


@pytest.mark.parametrize(
    "labels", [{"0": "bad", "1": "good"}, None], ids=["two labels", "those that transformers takes by default"]
)
def test_a_classifier_with_two_labels_is_no_reward_model(
    tmp_path: Path, reward: dict[str, Any], labels: dict[str, str] | None
) -> None:
    file = Path(reward["path"]) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": labels}))
    with pytest.raises(JudgeError, match=r"has one output \(num_labels 1\), this one has 2"):
        check_judge(judge_of(reward), tmp_path)


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "reward")
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_labels": 1}))
    with pytest.raises(JudgeError, match="the weights are those of a language model"):
        check_judge(judge_of({"kind": "reward_model", "path": str(folder)}), tmp_path)


def test_a_fault_of_any_member_is_found(write: Callable[..., Path], tmp_path: Path, reward: dict[str, Any]) -> None:
    write(SOURCE)
    check_judge(judge_of(PYTHON, reward, ACTOR), tmp_path)
    with pytest.raises(JudgeError, match="has no other"):
        check_judge(judge_of(reward, PYTHON | {"function": "my_rewards:other"}), tmp_path)
    (Path(reward["path"]) / "tokenizer_config.json").unlink()
    with pytest.raises(JudgeError, match=r"has no tokenizer_config\.json"):
        check_judge(judge_of(PYTHON, reward), tmp_path)


def test_the_digest_of_an_ensemble_follows_each_member(
    write: Callable[..., Path], tmp_path: Path, reward: dict[str, Any]
) -> None:
    file = write(SOURCE)
    both = judge_of(PYTHON, reward)
    before = judge_digest(both, tmp_path)
    assert before not in (judge_digest(judge_of(PYTHON), tmp_path), judge_digest(judge_of(reward), tmp_path))
    assert judge_digest(judge_of(reward, PYTHON), tmp_path) != before
    file.write_text(SOURCE + "# mended\n")
    assert judge_digest(both, tmp_path) != before
    assert judge_digest(judge_of(ACTOR), tmp_path) == "actor:judges/mine"


def test_the_content_that_decides_a_result_is_that_of_models_and_never_a_functions_source(
    write: Callable[..., Path], tmp_path: Path, reward: dict[str, Any]
) -> None:
    file = write(SOURCE)
    both = judge_of(PYTHON, reward)
    before = content_digest(both, tmp_path)
    assert before is not None
    file.write_text(SOURCE + "# mended\n")
    assert content_digest(both, tmp_path) == before
    assert content_digest(judge_of(reward), tmp_path) == judge_digest(judge_of(reward), tmp_path)
    tiny_model_folder(Path(reward["path"]), seed=1)
    assert content_digest(both, tmp_path) != before
    assert content_digest(judge_of(PYTHON), tmp_path) is None
    assert content_digest(judge_of(PYTHON, ACTOR), tmp_path) is None
