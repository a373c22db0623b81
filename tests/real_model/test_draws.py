"""Draws from trained weights are those of `generate`, and the shortcuts of drawing are taken in both types."""

from pathlib import Path
from typing import Literal

import pytest
import torch

from tests.real_model.questions import QUESTIONS, prompt_ids, tokenizer
from xpo_ray.checkpoints import load_model
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.stepper import Stepper
from xpo_ray.generation.transformers import TransformersEngine

GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=None, max_new_tokens=8)

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_greedy_draws_are_those_of_generate(real_model: Path, dtype: Literal["float32", "bfloat16"]) -> None:
    model = load_model(real_model, dtype)
    end = tokenizer(real_model).eos_token_id
    engine = TransformersEngine(model, [end])
    shortcuts = Stepper.of(model)
    assert shortcuts.direct is not None
    assert shortcuts.reads_ends
    prompts = [prompt_ids(real_model, q) for q in QUESTIONS[:2]]
    drawn = engine.draw(prompts, [0, 1], GREEDY)
    for prompt, one in zip(prompts, drawn, strict=True):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        own = model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=end)
        expected = own[0, len(prompt) :].tolist()
        if dtype == "float32":
            assert list(one.ids) == expected
        else:  # two tokens that are equally likely may change places by rounding; the first one is certain
            assert one.ids[0] == expected[0]
