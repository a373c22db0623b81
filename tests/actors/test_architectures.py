"""Whole SELM runs of models that keep more than keys and values, or have vision beside their text, on a real Ray."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.actors.conftest import World
from tests.tiny import tiny_tokenizer
from tests.xpo_ray.model_table import DECODERS, WHOLE
from xpo_ray.reporting import EvaluationDone, StepDone

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("cluster")]
VOCABULARY = 400
"""More than the tokenizer has: some kinds of models bring a token of their own."""


def world_of(world: World, name: str, folder: Path) -> World:
    """The world with another model, with room for the ids of the world's tokenizer."""
    row = next(r for r in DECODERS if r.id == name)
    larger = {k: VOCABULARY for k in ("vocab_size", "vocab_size_per_layer_input") if k in row.sizes | row.changes}
    replace(row, changes=row.changes | larger).make().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return World(world.folder, {**world.raw, "model": {**world.raw["model"], "path": str(folder)}})


@pytest.mark.parametrize("name", ["qwen3_5_text", "granitemoehybrid", "mamba2", "rwkv", "gemma3n_text", "deepseek_v3"])
def test_a_selm_run_of_it_goes_to_its_end(name: str, world: World, tmp_path: Path) -> None:
    ran = world_of(world, name, tmp_path / "base").run(f"selm-{name}")
    first = [s for s in ran.heard.of(StepDone) if s.step == 1]
    assert [s.metrics["loss/preference"] for s in first] == pytest.approx([math.log(2)] * 2, abs=1e-4)
    assert {e.iteration for e in ran.heard.of(EvaluationDone)} == {0, 1, 2}


def test_a_selm_run_leaves_vision_as_it_was(world: World, tmp_path: Path) -> None:
    row = next(r for r in WHOLE if r.kind == "qwen3_5")
    replace(row, text_changes={"vocab_size": VOCABULARY}).make().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    spec = {**world.raw, "model": {**world.raw["model"], "path": str(tmp_path / "base")}}
    ran = World(world.folder, spec).run("selm-whole")
    before = load_file(tmp_path / "base" / "model.safetensors")
    after = load_file(Path(ran.result.model) / "model.safetensors")
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("visual" in name for name in changed)
