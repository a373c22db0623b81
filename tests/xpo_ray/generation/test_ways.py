"""Which rows a model is drawn with, and what becomes of one that no kind of rows fits."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.xpo_ray.architectures import SIZES
from tests.xpo_ray.model_table import DECODERS
from xpo_ray.errors import ModelError
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.own_cache import OwnCache
from xpo_ray.generation.rows import Columns, Request
from xpo_ray.generation.transformers import TransformersEngine
from xpo_ray.generation.ways import Ways

pytestmark = pytest.mark.usefixtures("one_thread")


def made(name: str) -> PreTrainedModel:
    return next(row for row in DECODERS if row.id == name).make()


class Forgetful(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types
    """Its cache is of no use: a step sees the last token alone."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs | {"past_key_values": None, "position_ids": None})


@pytest.mark.parametrize(
    "name", ["llama", "mistral-sliding", "gpt2", "gemma3n_text", "deepseek_v3", "llama4_text", "bloom"]
)
def test_rows_of_models_that_keep_keys_and_values_leave_and_join(name: str) -> None:
    assert isinstance(Ways.of(made(name)).way, Columns)


@pytest.mark.parametrize(
    ("name", "pads", "selects", "alone"),
    [
        ("qwen3_5_text", True, True, False),
        ("lfm2", True, True, False),
        ("mamba", False, True, False),
        ("minimax", False, False, False),
        ("rwkv", False, False, True),
    ],
)
def test_others_are_drawn_with_their_own_cache_as_freely_as_it_allows(
    name: str, pads: bool, selects: bool, alone: bool
) -> None:
    model = made(name)
    assert Ways.of(model).way == OwnCache(model, pads=pads, selects=selects, alone=alone)


def test_a_model_whose_cache_is_wrong_is_refused_by_name() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Forgetful(LlamaConfig(**SIZES)).eval()
    with pytest.raises(ModelError, match=r"Forgetful cannot be drawn from: its logits with its cache are .*% away"):
        Ways.of(model)


def test_weights_that_are_no_numbers_are_told_apart_from_a_cache_that_is_wrong() -> None:
    model = made("qwen3_5_text")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(ModelError, match="its weights hold NaN or infinity"):
        Ways.of(model)


def test_prompts_of_one_length_are_read_together_where_none_may_be_padded() -> None:
    waiting = [Request(0, [1, 2, 3]), Request(1, [4, 5, 6]), Request(2, [7])]
    model = made("llama")
    assert list(OwnCache(model, pads=False, selects=True).joining(waiting, None)) == waiting[:2]
    assert list(OwnCache(model, pads=True, selects=True).joining(waiting, None)) == waiting
    assert list(OwnCache(model, pads=False, selects=False, alone=True).joining(waiting, None)) == waiting[:1]


def test_a_draw_across_the_border_is_read_anew_there_and_knows_no_neighbour() -> None:
    model = made("phi3-longrope")
    prompts = [[(7 * k + n) % 41 for k in range(n)] for n in (60, 62, 40, 60)]
    drawn = TransformersEngine(model, []).draw(prompts, [1, 2, 3, 4], Sampling(0.0, 1.0, None, 8))
    for one, prompt in zip(drawn, prompts, strict=True):
        ids = list(prompt)
        for _ in range(8):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert list(one.ids) == ids[len(prompt) :]


def test_memory_is_reckoned_for_states_and_for_each_token() -> None:
    states, both = Ways.of(made("mamba2")).row_bytes, Ways.of(made("qwen3_5_text")).row_bytes
    assert states(10) == states(1000) > 0
    assert both(1000) - both(10) == 990 * 2 * 2 * 8 * 4  # keys and values of one layer: two heads of eight


def test_memory_of_columns_is_that_of_all_of_them_from_the_beginning() -> None:
    reckoned = Ways.of(made("gemma2")).row_bytes
    assert reckoned(1000) - reckoned(10) == 990 * 2 * 2 * 2 * 8 * 4  # two layers' keys and values: two heads of eight


class Unpadded(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types
    """What stands beside padding is no number."""

    def forward(self, *args: Any, attention_mask: torch.Tensor | None = None, **kwargs: Any) -> Any:
        out = super().forward(*args, attention_mask=attention_mask, **kwargs)
        if attention_mask is not None:
            out.logits[~attention_mask.flatten(1).bool().all(-1)] = torch.nan
        return out


def test_a_row_of_no_numbers_beside_a_right_one_is_seen() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Unpadded(LlamaConfig(**SIZES)).eval()
    assert Ways.of(model).way == OwnCache(model, pads=False, selects=True)


class Mixing(LlamaForCausalLM):  # type: ignore[misc]  # transformers has no types
    """A little of each row is in the others, whatever cache it has."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = super().forward(*args, **kwargs)
        out.logits = out.logits + 0.1 * (out.logits.sum(0) - out.logits)
        return out


def test_rows_that_are_felt_a_little_are_drawn_one_by_one() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = Mixing(LlamaConfig(**SIZES)).eval()
    assert Ways.of(model).way == OwnCache(model, pads=False, selects=False, alone=True)
