"""A run whose model.path is a GGUF: said by validate and in the log, and exported as safetensors with its chat."""

import json
from pathlib import Path

import pytest

from tests.gguf_writing import random_model, write_gguf
from tests.running import tiny_world, write_spec, xpo_ray
from tests.tiny import tiny_tokenizer
from xpo_ray.chat import Chat
from xpo_ray.checkpoints import load_model

pytestmark = pytest.mark.ray


def test_a_gguf_is_trained_and_exported_as_safetensors(tmp_path: Path) -> None:
    raw = tiny_world(tmp_path, prompts=8, held_out=2)
    tokenizer = tiny_tokenizer()
    file = write_gguf(tmp_path / "base.F32.gguf", random_model("llama", tokenizer), tokenizer)
    raw["model"]["path"] = "./base.F32.gguf"
    raw["data"]["partitions"] = 1
    spec = write_spec(tmp_path, raw)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    valid = xpo_ray("validate", spec, **cache)
    assert valid.returncode == 0, valid.stderr
    assert "base.F32.gguf: llama in F32 is dequantised, once" in valid.stderr
    ran = xpo_ray("run", spec, "--json", **cache)
    assert ran.returncode == 0, ran.stderr
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    (told,) = [event["message"] for event in events if event.get("code") == "dequantised"]
    assert f"the GGUF {file.name} (llama, F32), dequantised to float32" in told
    assert "dequantised, once" not in ran.stderr
    result = tmp_path / "out" / "model"
    assert load_model(result, "float32").config.model_type == "llama"
    assert Chat.load(str(result), None, "tokenizer").eos_id == tokenizer.eos_token_id
    assert not list(result.glob("*gguf*"))
