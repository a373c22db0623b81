"""What the files of a model say against training it, each refused in one sentence that names the remedy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import tiny_model_folder
from xpo_ray.errors import ModelError, SpecError
from xpo_ray.kept_verdicts import KeptVerdicts
from xpo_ray.model_checks import check_model
from xpo_ray.model_checks.finite import refuse_not_finite
from xpo_ray.spec.run import RunSpec


def spec_of(folder: Path, **data: int) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "checked",
            "model": {"path": str(folder)},
            "data": {"source": {"kind": "files", "path": "./rows.jsonl"}, "partitions": 1} | data,
            "algorithm": {"kind": "selm"},
            "sampling": {"max_new_tokens": 16},
            "judge": {"kind": "python", "function": "rewards:score"},
            "output": {"path": "./out"},
        }
    )


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content))


def configured(folder: Path, **changes: Any) -> None:
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)


def rewritten(folder: Path, *, without: str = "", more: Mapping[str, Tensor] | None = None) -> None:
    file = folder / "model.safetensors"
    kept = {name: t for name, t in load_file(file).items() if not (without and name.startswith(without))}
    save_file(kept | dict(more or {}), file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model_folder(tmp_path / "model")


def test_a_whole_model_is_not_complained_of(folder: Path, tmp_path: Path) -> None:
    assert check_model(spec_of(folder)) == {}
    assert check_model(spec_of(tiny_model_folder(tmp_path / "tied", tied=True))) == {}


def test_an_empty_quantization_config_says_nothing(folder: Path) -> None:
    configured(folder, quantization_config=None)
    assert check_model(spec_of(folder)) == {}


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "mlx"),
    ],
)
def test_a_config_of_quantised_weights_is_refused_by_its_kind(folder: Path, entry: dict[str, Any], kind: str) -> None:
    configured(folder, **entry)
    with pytest.raises(ModelError, match=rf"config.json has \w+: weights that are quantised \({kind}\)"):
        check_model(spec_of(folder))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.layers.0.mlp.up_proj.qweight", "gptq or awq"),
        ("model.layers.0.mlp.up_proj.weight.absmax.SCB", "bitsandbytes"),
    ],
)
def test_quantised_weights_are_known_by_their_tensors_where_the_config_is_silent(
    folder: Path, name: str, kind: str
) -> None:
    rewritten(folder, more={name: torch.zeros(4, 4, dtype=torch.int32)})
    with pytest.raises(ModelError, match=kind):
        check_model(spec_of(folder))


def test_an_adapter_is_named_with_its_base(tmp_path: Path) -> None:
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "owner/base"})
    with pytest.raises(ModelError, match=r"is an adapter \(LORA\) of owner/base, not a model; merge it first"):
        check_model(spec_of(tmp_path))


def test_an_adapter_that_cannot_be_merged_gets_another_remedy(tmp_path: Path) -> None:
    write_json(
        tmp_path / "adapter_config.json", {"peft_type": "PREFIX_TUNING", "base_model_name_or_path": "owner/base"}
    )
    with pytest.raises(ModelError, match="cannot be merged into owner/base: train owner/base itself"):
        check_model(spec_of(tmp_path))


def test_an_adapter_beside_a_model_is_refused(folder: Path) -> None:
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "owner/base"})
    with pytest.raises(ModelError, match="holds a model and an adapter"):
        check_model(spec_of(folder))


def test_a_reward_model_is_no_policy(folder: Path) -> None:
    configured(folder, architectures=["LlamaForSequenceClassification"])
    rewritten(folder, without="lm_head", more={"score.weight": torch.zeros(1, 32)})
    with pytest.raises(ModelError, match="has no head of a language model but LlamaForSequenceClassification"):
        check_model(spec_of(folder))


def test_a_head_that_is_neither_there_nor_tied_would_be_random(folder: Path) -> None:
    rewritten(folder, without="lm_head")
    with pytest.raises(ModelError, match="tie_word_embeddings: false, so the head would be random"):
        check_model(spec_of(folder))


def test_a_value_head_beside_the_language_models_is_warned_of(folder: Path) -> None:
    rewritten(folder, more={"v_head.summary.weight": torch.zeros(1, 32)})
    assert "neither trained nor exported" in check_model(spec_of(folder))["head_not_read"]


def test_lost_layers_are_found(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path / "model", layers=4)
    rewritten(folder, without="model.layers.2.")
    with pytest.raises(ModelError, match=r"lack 1 of 4 layers, the first is model.layers.2"):
        check_model(spec_of(folder))


def test_a_file_that_is_cut_short_is_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        check_model(spec_of(folder))


def test_rotary_positions_beyond_those_of_the_training_are_warned_of_and_a_table_is_refused(folder: Path) -> None:
    configured(folder, max_position_embeddings=24)
    spec = spec_of(folder, max_prompt_tokens=64)
    assert "as the model never was in its training" in check_model(spec)["beyond_positions"]
    configured(folder, model_type="gpt2", max_position_embeddings=16)
    with pytest.raises(SpecError, match=r"16 new tokens: the model in .* has 16 positions, and none beyond"):
        check_model(spec)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (float("-inf"), "infinity")])
def test_weights_that_are_no_numbers_are_named_with_their_file(
    tmp_path: Path, dtype: torch.dtype, value: float, word: str
) -> None:
    weight = torch.linspace(-3, 3, 64, dtype=dtype)
    save_file({"layers.0.weight": weight}, tmp_path / "model.safetensors")
    verdicts = KeptVerdicts(tmp_path / "verdicts")
    refuse_not_finite(tmp_path, verdicts)
    weight[17] = value
    save_file({"layers.0.weight": weight}, tmp_path / "model.safetensors")
    for _ in range(2):  # the second answer is the kept one
        with pytest.raises(ModelError, match=rf"hold {word}: layers.0.weight in model.safetensors"):
            refuse_not_finite(tmp_path, verdicts)


def test_a_mask_that_an_old_checkpoint_holds_may_be_infinite(tmp_path: Path) -> None:
    infinite, verdicts = torch.tensor([float("-inf")]), KeptVerdicts(tmp_path / "verdicts")
    save_file({"h.0.attn.masked_bias": infinite}, tmp_path / "model.safetensors")
    refuse_not_finite(tmp_path, verdicts)
    save_file({"h.0.attn.masked_bias": infinite, "h.0.attn.weight": infinite.clone()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"hold infinity: h\.0\.attn\.weight"):
        refuse_not_finite(tmp_path, verdicts)
