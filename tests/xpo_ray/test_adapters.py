"""Adapters: off is the base to the bit, on is W + scaling · B·A, on disk and merged."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.tiny import tiny_model_folder
from tests.xpo_ray.model_table import WHOLE
from xpo_ray.adapters import Adapter, averaged, merged, read_adapter, save_merged
from xpo_ray.checkpoints import load_model, save_tokenizer
from xpo_ray.errors import ModelError
from xpo_ray.model_files import architecture
from xpo_ray.plan.adapter import Adapted
from xpo_ray.spec.data import LoraSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("one_thread")

IDS = torch.tensor([[5, 9, 20, 31, 40, 7]])
LORA = LoraSpec(rank=4, alpha=8.0)


def origin(folder: Path, dtype: Any = "float32") -> ModelSpec:
    return ModelSpec(path=str(folder), dtype=dtype)


def far(folder: Path, seed: int = 0, lora: LoraSpec = LORA, dtype: Any = "float32") -> Adapter:
    """An adapter whose B is far from zero."""
    adapter = Adapter(origin(folder, dtype), lora, seed)
    generator = torch.Generator().manual_seed(seed)
    adapter.put({n: torch.randn(t.shape, generator=generator) / 10 for n, t in adapter.weights().items()})
    return adapter


@torch.no_grad()
def logits(model: Any) -> Tensor:
    out: Tensor = model(input_ids=IDS).logits
    return out


def test_a_new_adapter_has_no_effect_and_is_that_of_its_seed(model_folder: Path) -> None:
    one, again, other = (Adapter(origin(model_folder), LORA, seed) for seed in (0, 0, 1))
    assert torch.equal(logits(one.model), logits(load_model(model_folder, "float32")))
    assert all(torch.equal(a, b) for a, b in zip(one.weights().values(), again.weights().values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.weights().values(), other.weights().values(), strict=True))


def test_making_an_adapter_leaves_the_random_state_alone(model_folder: Path) -> None:
    before = torch.get_rng_state()
    Adapter(origin(model_folder), LORA)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_off_it_is_the_base_to_the_bit_and_on_again_afterwards(model_folder: Path, dtype: Any) -> None:
    adapter, base = far(model_folder, dtype=dtype), load_model(model_folder, dtype)
    on = logits(adapter.model)
    with adapter.off():
        assert torch.equal(logits(adapter.model), logits(base))
    assert torch.equal(logits(adapter.model), on)
    assert float((on - logits(base)).abs().max()) > 0.1


def test_it_is_on_again_after_an_error(model_folder: Path) -> None:
    adapter = far(model_folder)
    on = logits(adapter.model)
    with pytest.raises(KeyError), adapter.off():
        raise KeyError
    assert torch.equal(logits(adapter.model), on)


def test_only_the_adapter_is_trained_and_in_float32(model_folder: Path) -> None:
    adapter = Adapter(origin(model_folder, "bfloat16"), LORA)
    trained = [p for p in adapter.model.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in adapter.parameters.values()}
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.dtype for p in adapter.model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert not any(m.training for m in adapter.model.modules())


@pytest.mark.parametrize(("rslora", "scaling"), [(False, 8.0 / 4), (True, 8.0 / math.sqrt(4))])
def test_merged_weights_are_the_base_plus_scaled_b_times_a(
    tmp_path: Path, model_folder: Path, rslora: bool, scaling: float
) -> None:
    adapter = far(model_folder, lora=LORA.model_copy(update={"rslora": rslora}))
    adapter.save(tmp_path)
    base, whole, tensors = load_model(model_folder, "float32"), merged(tmp_path), adapter.weights()
    adapted = 0
    for name, weight in base.named_parameters():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        expected = weight.detach()
        if f"{stem}.lora_A.weight" in tensors:
            adapted += 1
            expected = expected + scaling * tensors[f"{stem}.lora_B.weight"] @ tensors[f"{stem}.lora_A.weight"]
        torch.testing.assert_close(whole.get_parameter(name).detach(), expected, atol=1e-6, rtol=1e-6)
    assert adapted == 7 * 2  # q, k, v, o, gate, up, down of two layers; not the head
    torch.testing.assert_close(logits(whole), logits(adapter.model), atol=1e-4, rtol=1e-4)


def test_a_saved_adapter_is_small_reads_back_and_loads_in_transformers(tmp_path: Path, model_folder: Path) -> None:
    adapter, other = far(model_folder), Adapter(origin(model_folder), LORA)
    adapter.save(tmp_path / "one")
    adapter.save(tmp_path / "again")
    other.put(read_adapter(tmp_path / "one"))
    assert torch.equal(logits(other.model), logits(adapter.model))
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    config = json.loads((tmp_path / "one" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["inference_mode"]) == (str(model_folder), True)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "one")), logits(adapter.model))


def test_a_merged_folder_needs_neither_peft_nor_the_base(tmp_path: Path) -> None:
    base = tiny_model_folder(tmp_path / "base")
    adapter = far(base)
    adapter.save(tmp_path / "adapter")
    save_tokenizer(base, tmp_path / "adapter")
    save_merged(tmp_path / "adapter", tmp_path / "merged")
    base.rename(tmp_path / "gone")
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any("adapter" in name for name in names)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    torch.testing.assert_close(logits(loaded), logits(adapter.model), atol=1e-4, rtol=1e-4)


def test_what_reads_images_for_the_base_is_beside_the_merged_model(tmp_path: Path, model_folder: Path) -> None:
    WHOLE[0].make().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "preprocessor_config.json").write_text("{}")
    far(tmp_path / "base").save(tmp_path / "adapter")
    save_tokenizer(model_folder, tmp_path / "adapter")
    save_merged(tmp_path / "adapter", tmp_path / "merged")
    assert (tmp_path / "merged" / "preprocessor_config.json").exists()


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_the_average_is_that_of_the_models_and_not_of_a_and_b(
    tmp_path: Path, model_folder: Path, rslora: bool, n: int
) -> None:
    lora, decay = LORA.model_copy(update={"rslora": rslora}), 0.25
    folders = [tmp_path / str(k) for k in range(n)]
    for k, folder in enumerate(folders):
        far(model_folder, k, lora).save(folder)
    expected = load_model(model_folder, "float32")
    for folder in folders:
        for own, new in zip(expected.parameters(), merged(folder).parameters(), strict=True):
            own.data.mul_(decay).add_(new.data, alpha=1.0 - decay)
    average = averaged(origin(model_folder), lora, folders, decay)
    torch.testing.assert_close(logits(average.model), logits(expected), atol=1e-4, rtol=1e-4)
    with average.off():
        assert torch.equal(logits(average.model), logits(load_model(model_folder, "float32")))


@pytest.mark.parametrize(
    ("harm", "message"), [("missing", "of other layers"), ("unknown", "of other layers"), ("shape", "of another shape")]
)
def test_tensors_that_do_not_fit_are_refused_before_any_is_copied(model_folder: Path, harm: str, message: str) -> None:
    adapter, weights = far(model_folder), far(model_folder, 1).weights()
    before, last = adapter.weights(), list(weights)[-1]
    match harm:
        case "missing":
            del weights[last]
        case "unknown":
            weights["other"] = torch.ones(1)
        case _:
            weights[last] = torch.ones(1)
    with pytest.raises(ValueError, match=message):
        adapter.put(weights)
    assert all(torch.equal(t, before[n]) for n, t in adapter.weights().items())


def test_named_layers_alone_get_an_adapter(model_folder: Path) -> None:
    lora = LoraSpec(rank=2, target_modules=("q_proj", "v_proj"))
    names = Adapter(origin(model_folder), lora).parameters
    assert len(names) == 2 * 2 * 2
    assert all(".q_proj." in n or ".v_proj." in n for n in names)


def test_layers_that_the_model_lacks_are_refused(model_folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"model\.lora\.target_modules: .*nope.* cannot be adapted in LlamaForCausalLM"
    ):
        Adapter(origin(model_folder), LoraSpec(target_modules=("nope",)))


def test_a_folder_without_an_adapter_is_refused(model_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors: missing"):
        read_adapter(model_folder)


def test_the_head_is_not_adapted(model_folder: Path) -> None:
    with pytest.raises(ModelError, match="has the embeddings or the head in it"):
        Adapter(origin(model_folder), LoraSpec(target_modules=("q_proj", "lm_head")))


def test_gpt2s_transposed_layers_are_adapted_and_merged_too(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
    base = GPT2LMHeadModel(config).eval()
    base.save_pretrained(tmp_path / "base")
    adapter = far(tmp_path / "base")
    adapter.save(tmp_path / "adapter")
    torch.testing.assert_close(logits(merged(tmp_path / "adapter")), logits(adapter.model), atol=1e-4, rtol=1e-4)
    with adapter.off():
        assert torch.equal(logits(adapter.model), logits(base))
    planned = Adapted.of(tmp_path / "base", architecture(tmp_path / "base"), LORA)
    assert planned.parameters == sum(p.numel() for p in adapter.parameters.values())
