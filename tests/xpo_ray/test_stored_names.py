"""Weights that travelled by object ref, beside those that `save_pretrained` writes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.xpo_ray.model_table import DECODERS
from xpo_ray.checkpoints import load_model, weights_of
from xpo_ray.stored_names import as_stored


@pytest.mark.parametrize("name", ["llama", "mixtral", "qwen3_moe", "deepseek_v3", "gpt2"])
def test_travelling_weights_get_the_names_and_shapes_of_a_folder(name: str, tmp_path: Path) -> None:
    next(row for row in DECODERS if row.id == name).make().save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    made = as_stored(weights_of(load_model(tmp_path, "float32")), str(tmp_path))
    assert set(made) == set(stored)
    assert all(torch.equal(made[n], t) for n, t in stored.items())
