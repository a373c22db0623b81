"""Tensors by config.json: by hand for a real size, and against the models that transformers makes of the same configs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from xpo_ray.errors import ModelError
from xpo_ray.model_files import tensor_shapes
from xpo_ray.plan.memory import ModelSize
from xpo_ray.plan.shapes import shapes
from xpo_ray.spec.data import LoraSpec

LLAMA_3_8B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": None,
}


def config_folder(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_llama_3_8b_has_the_parameters_that_follow_from_its_config(tmp_path: Path) -> None:
    ends = 2 * 128256 * 4096 + 4096
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024  # queries and output; keys and values of 8 heads of 128
    layer = attention + 3 * 4096 * 14336 + 2 * 4096
    size = ModelSize.of(str(config_folder(tmp_path, LLAMA_3_8B)))
    assert size.parameters == ends + 32 * layer == 8_030_261_248
    assert (size.from_config, size.unknown) == (True, None)


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 16}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        ("qwen3", {"attention_bias": True}),
        ("phi3", {}),
    ],
)
def test_a_model_that_is_made_of_a_config_has_the_tensors_that_were_planned(
    tmp_path: Path, kind: str, more: dict[str, Any]
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **SMALL, **more)
    model = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    planned = shapes(tmp_path)
    model.save_pretrained(tmp_path)
    assert planned == shapes(tmp_path) == tensor_shapes(tmp_path)
    assert sum(map(math.prod, planned.values())) == sum(p.numel() for p in model.parameters())


def test_an_adapter_is_planned_from_a_config_too(tmp_path: Path) -> None:
    folder = config_folder(tmp_path, LLAMA_3_8B)
    adapted = ModelSize.of(str(folder), LoraSpec(rank=8, target_modules=("q_proj", "v_proj"))).adapted
    assert adapted is not None
    assert adapted.parameters == 32 * 8 * ((4096 + 4096) + (4096 + 1024)) == 3_407_872


def test_an_unknown_architecture_without_weights_is_unknown_and_other_weights_are_refused_as_before(
    tmp_path: Path,
) -> None:
    folder = config_folder(tmp_path, LLAMA_3_8B | {"model_type": "other"})
    assert ModelSize.of(str(folder)).parameters is None
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"found pytorch_model\.bin"):
        ModelSize.of(str(folder))
