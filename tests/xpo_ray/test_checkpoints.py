"""Models and trainer state on disk and by object ref, bit by bit."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import AdamW
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from xpo_ray.checkpoints import (
    load_model,
    load_trainer_state,
    put_weights,
    save_model,
    save_trainer_state,
    weights_of,
)
from xpo_ray.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")


def tied_model(seed: int = 0) -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=31,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(config).eval()


def optimizer_of(model: nn.Module) -> AdamW:
    return AdamW(model.parameters(), lr=1e-2, fused=True)


def train(model: nn.Module, optimizer: AdamW, steps: int) -> None:
    """Steps whose gradients hang on torch's random state, so that a lost one shows."""
    for _ in range(steps):
        loss = model(input_ids=torch.randint(0, 31, (2, 6))).logits.float().logsumexp(-1).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_model_is_loaded_in_the_asked_dtype_without_dropout(model_folder: Path) -> None:
    full, half = load_model(model_folder, "float32"), load_model(model_folder, "bfloat16")
    assert ({p.dtype for p in full.parameters()}, {p.dtype for p in half.parameters()}) == (
        {torch.float32},
        {torch.bfloat16},
    )
    assert not full.training


def test_a_saved_model_is_a_folder_that_loads_with_its_tokenizer(tmp_path: Path, model_folder: Path) -> None:
    model = load_model(model_folder, "float32")
    save_model(model, model_folder, tmp_path / "model")
    assert same(load_model(tmp_path / "model", "float32"), model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(model_folder).chat_template
    assert not list((tmp_path / "model").glob("*.bin"))


def test_a_generation_config_that_transformers_refuses_to_write_is_mended(tmp_path: Path, model_folder: Path) -> None:
    for file in model_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "temperature": 0.6, "eos_token_id": 1})
    )
    save_model(load_model(tmp_path, "float32"), model_folder, tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (saved["do_sample"], saved["temperature"], saved["eos_token_id"]) == (True, 0.6, 1)
    save_model(load_model(tmp_path / "model", "float32"), model_folder, tmp_path / "again")


def test_of_a_generation_config_that_cannot_be_mended_the_tokens_remain(tmp_path: Path, model_folder: Path) -> None:
    model = load_model(model_folder, "float32")
    given = model.generation_config
    given.num_return_sequences, given.num_beams, given.eos_token_id = 4, 2, [1, 2]  # fewer beams than sequences
    save_model(model, model_folder, tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert saved["eos_token_id"] == [1, 2]
    assert "num_return_sequences" not in saved


def test_settings_of_generation_in_an_old_config_move_to_where_they_belong(tmp_path: Path, model_folder: Path) -> None:
    model = load_model(model_folder, "float32")
    model.config.temperature = 0.7
    save_model(model, model_folder, tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text())
    assert (saved["do_sample"], saved["temperature"]) == (True, 0.7)
    assert "temperature" not in json.loads((tmp_path / "config.json").read_text())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no causal language model could be loaded"):
        load_model(tmp_path, "float32")


def test_weights_that_are_pickled_are_refused(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "config.json").write_text((model_folder / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no causal language model could be loaded"):
        load_model(tmp_path, "float32")


def test_training_goes_on_bit_by_bit_after_a_round_trip_of_model_and_state(tmp_path: Path) -> None:
    undisturbed = tied_model()
    optimizer = optimizer_of(undisturbed)
    train(undisturbed, optimizer, 3)
    undisturbed.save_pretrained(tmp_path / "model")
    save_trainer_state(tmp_path / "trainer", undisturbed, optimizer, {"step": 3})
    train(undisturbed, optimizer, 4)
    torch.manual_seed(99)

    resumed = load_model(tmp_path / "model", "float32")
    again = optimizer_of(resumed)
    load_trainer_state(tmp_path / "trainer", resumed, again)
    train(resumed, again, 4)
    assert same(resumed, undisturbed)
    for own, restored in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        one, other = optimizer.state[own], again.state[restored]
        assert one.keys() == other.keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_the_state_is_safetensors_and_a_readable_position(tmp_path: Path) -> None:
    model = tied_model()
    optimizer = optimizer_of(model)
    train(model, optimizer, 1)
    save_trainer_state(tmp_path / "trainer", model, optimizer, {"iteration": 1, "step": 2})
    assert sorted(p.name for p in (tmp_path / "trainer").iterdir()) == ["position.json", "state.safetensors"]
    assert json.loads((tmp_path / "trainer" / "position.json").read_text()) == {"iteration": 1, "step": 2}


def test_the_state_of_an_optimizer_that_has_not_stepped_is_none(tmp_path: Path) -> None:
    model = tied_model()
    save_trainer_state(tmp_path / "trainer", model, optimizer_of(model), {})
    again = optimizer_of(model)
    load_trainer_state(tmp_path / "trainer", model, again)
    assert not again.state


def test_tied_weights_travel_once_and_stay_tied() -> None:
    model, target = tied_model(0), tied_model(1)
    assert not same(model, target)
    weights = weights_of(model)
    assert "model.embed_tokens.weight" in weights
    assert "lm_head.weight" not in weights
    put_weights(target, weights)
    assert same(target, model)
    assert target.lm_head.weight is target.model.embed_tokens.weight


def test_travelling_weights_are_copies_that_later_steps_do_not_change() -> None:
    model = tied_model()
    before = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    weights = weights_of(model)
    train(model, optimizer_of(model), 1)
    assert all(torch.equal(weights[name], before[name]) for name in before)
    assert not torch.equal(model.model.embed_tokens.weight, before["model.embed_tokens.weight"])


def test_weights_may_be_put_into_a_model_of_another_dtype() -> None:
    model, target = tied_model(0), tied_model(1).to(torch.bfloat16)
    put_weights(target, weights_of(model))
    assert torch.equal(target.model.norm.weight, model.model.norm.weight.to(torch.bfloat16))
    assert torch.equal(target.lm_head.weight, model.lm_head.weight.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("unknown", "that the model lacks: .'other'"),
        ("missing", "no weights for parameters of the model: .'model.norm.weight'"),
        ("shape", "of another shape .*: .'model.norm.weight'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_any_is_copied(harm: str, message: str) -> None:
    weights, target = weights_of(tied_model(0)), tied_model(1)
    match harm:
        case "unknown":
            weights["other"] = torch.ones(2)
        case "missing":
            del weights["model.norm.weight"]
        case _:
            weights["model.norm.weight"] = torch.ones(1)  # would broadcast
    with pytest.raises(ValueError, match=message):
        put_weights(target, weights)
    assert same(target, tied_model(1))
