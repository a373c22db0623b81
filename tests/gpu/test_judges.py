"""Judges that are models, on each device and in each type: their scores beside those of float32 on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from tests.tiny import tiny_tokenizer
from tests.xpo_ray.judges.pairrm.worlds import hf_folder
from xpo_ray.devices import CPU, computing_on, own_device
from xpo_ray.errors import JudgeError
from xpo_ray.judges import Comparison, Message, Response
from xpo_ray.judges.pairrm.judge import PairRMRanker
from xpo_ray.judges.reward_model import RewardModel
from xpo_ray.spec import PairRMJudge, RewardModelJudge

TEXTS = ("the cat is good", "bad", "I hate you, the dog is bad.", "the cat is good and the dog is good too")
COMPARED = Comparison((Message(role="user", content="what is good?"),), tuple(map(Response, TEXTS)))
NEAR = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.03}
"""How far a score may be off, as a share of the largest."""


@pytest.fixture(scope="module")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("reward"), tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pairrm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_folder(tmp_path_factory.mktemp("pairrm") / "PairRM-hf", hidden_size=128, intermediate_size=160)


def judged(judge: RewardModel | PairRMRanker) -> list[float]:
    (judgement,) = judge.judge([COMPARED])
    return [score for score in judgement.scores or () if score is not None]


def reward(folder: Path, dtype: Any) -> list[float]:
    judge = RewardModel(RewardModelJudge(kind="reward_model", path=str(folder), dtype=dtype), Path("."))
    assert judge._packed
    assert judge._model.device == own_device()
    return judged(judge)


def pairrm(folder: Path, dtype: Any) -> list[float]:
    judge = PairRMRanker(PairRMJudge(kind="pairrm", path=str(folder), dtype=dtype), Path("."))
    scores = judged(judge)
    assert judge._model._states is not None
    assert judge._model._states._positions
    return scores


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.usefixtures("device")
def test_a_reward_models_scores_are_those_of_float32_on_the_cpu(reward_folder: Path, dtype: str) -> None:
    with computing_on(CPU):
        expected = reward(reward_folder, "float32")
    assert reward(reward_folder, dtype) == pytest.approx(expected, abs=NEAR[dtype] * max(map(abs, expected)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_pairrms_scores_are_those_of_float32_on_the_cpu(pairrm_folder: Path, device: torch.device, dtype: str) -> None:
    with computing_on(CPU):
        expected = pairrm(pairrm_folder, "float32")
    try:
        found = pairrm(pairrm_folder, dtype)
    except JudgeError as refused:
        if device.type == "cuda":
            raise
        pytest.skip(str(refused))
    assert found == pytest.approx(expected, abs=NEAR[dtype] * max(map(abs, expected)))
