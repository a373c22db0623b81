"""A GGUF file becomes the folder of the model that it was written from; what would be lost on the way is refused."""

import json
from pathlib import Path

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.gguf_writing import HEAD_DIM, random_model, write_gguf
from tests.tiny import tiny_tokenizer
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import load_model
from xpo_ray.errors import ModelError
from xpo_ray.gguf_conversion import convert, llama3_divisors
from xpo_ray.gguf_files import ARCHITECTURES
from xpo_ray.judges.judgement import Message

TOKENIZER = tiny_tokenizer()
IDS = torch.tensor([[7, 50, 120, 9, 300, 41, 41, 200]])


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(IDS).logits
    return logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_the_converted_model_gives_the_logits_of_the_one_that_was_written(
    tmp_path: Path, architecture: str, tied: bool
) -> None:
    model = random_model(architecture, TOKENIZER, tie_word_embeddings=tied)
    convert(write_gguf(tmp_path / "a.gguf", model, TOKENIZER), tmp_path / "folder")
    read = load_model(tmp_path / "folder", "float32")
    torch.testing.assert_close(_logits(read), _logits(model), rtol=1e-5, atol=1e-5)


def test_the_folder_has_tokenizer_template_and_ends_of_the_file(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    convert(file, tmp_path / "folder")
    chat = Chat.load(str(tmp_path / "folder"), None, "tokenizer")
    own = Chat(TOKENIZER, name="own", template=str(TOKENIZER.chat_template))
    asked, answer = (
        [Message(role="user", content="Why is the sky blue, and why is an egg?")],
        "Because air scatters blue.",
    )
    assert chat.prompt_ids(asked) == own.prompt_ids(asked)
    assert chat.response_ids(asked, answer, 64) == own.response_ids(asked, answer, 64)
    assert json.loads((tmp_path / "folder" / "generation_config.json").read_text())["eos_token_id"] == chat.eos_id


def test_quantised_weights_are_those_that_the_package_gguf_dequantises(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    model = random_model("qwen2", TOKENIZER)
    convert(write_gguf(tmp_path / "a.gguf", model, TOKENIZER, quantised=kind), tmp_path / "folder")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "folder").state_dict()
    name = "model.layers.1.mlp.down_proj.weight"
    expected = gguf.dequantize(gguf.quantize(model.state_dict()[name].numpy(), kind), kind)
    torch.testing.assert_close(read[name], torch.from_numpy(expected), rtol=0, atol=0)
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert "quantization_config" not in config


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_stretched_positions_of_llama_3_are_taken_over(tmp_path: Path, factor: float) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model = random_model("llama", TOKENIZER, rope_parameters=rope)
    divisors = {"rope_freqs.weight": torch.tensor(llama3_divisors(500000.0, HEAD_DIM, factor))}
    convert(write_gguf(tmp_path / "a.gguf", model, TOKENIZER, more_tensors=divisors), tmp_path / "folder")
    torch.testing.assert_close(
        _logits(load_model(tmp_path / "folder", "float32")), _logits(model), rtol=1e-5, atol=1e-5
    )


def test_positions_stretched_in_another_way_are_refused(tmp_path: Path) -> None:
    model = random_model("llama", TOKENIZER)
    file = write_gguf(
        tmp_path / "a.gguf", model, TOKENIZER, more_tensors={"rope_freqs.weight": torch.full((HEAD_DIM // 2,), 3.0)}
    )
    with pytest.raises(ModelError, match="stretches positions"):
        convert(file, tmp_path / "folder")


def test_a_tensor_that_the_model_has_no_place_for_is_refused(tmp_path: Path) -> None:
    model = random_model("llama", TOKENIZER)
    bias = {"blk.0.attn_q.bias": torch.ones(model.config.hidden_size)}
    file = write_gguf(tmp_path / "a.gguf", model, TOKENIZER, more_tensors=bias)
    with pytest.raises(ModelError, match="some would be left"):
        convert(file, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="name a new folder, or remove it"):
        convert(file, tmp_path / "folder")


def test_what_was_converted_before_stays(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", random_model("llama", TOKENIZER), TOKENIZER)
    convert(file, tmp_path / "folder")
    before = (tmp_path / "folder" / "model.safetensors").stat().st_ino
    convert(file, tmp_path / "folder")
    assert (tmp_path / "folder" / "model.safetensors").stat().st_ino == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gguf", "folder"]
    assert AutoTokenizer.from_pretrained(tmp_path / "folder").eos_token == TOKENIZER.eos_token
