"""The transformers engine, against model.generate, slow filters and the softmax itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from tests.xpo_ray.architectures import GPT2_SIZES, SIZES
from xpo_ray.generation import transformers as engine_module
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.transformers import TransformersEngine, pick, uniforms

pytestmark = pytest.mark.usefixtures("one_thread")

EOS = 1
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16, 17], [18, EOS, 19], [20, 21]]
SEEDS = [101, 102, 103, 104, 105]


def make(kind: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        if kind == "gpt2":  # absolute positions
            return GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)).eval()
        if kind == "mistral":
            return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5)).eval()
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make("llama")


@pytest.fixture(scope="module")
def mistral() -> PreTrainedModel:
    return make("mistral")


def sampled(tokens: int = 12, **changes: Any) -> Sampling:
    return Sampling(**{"temperature": 1.0, "top_p": 1.0, "top_k": None, "max_new_tokens": tokens} | changes)


def greedy(tokens: int = 12, least: int = 0) -> Sampling:
    return Sampling(0.0, 1.0, None, tokens, least)


def next_logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([list(ids)])).logits[0, -1].float()
    return logits


def slow_greedy(model: PreTrainedModel, prompt: Sequence[int], tokens: int) -> list[int]:
    """One sequence, without a cache."""
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(next_logits(model, ids).argmax()))
    return ids[len(prompt) :]


def slow_draw(model: PreTrainedModel, prompt: Sequence[int], seed: int, tokens: int) -> list[int]:
    """One sequence, without a cache: each token by its uniform number's place in the cumulative distribution."""
    ids = list(prompt)
    for u in uniforms([seed], tokens)[0].tolist():
        probs = next_logits(model, ids).double().softmax(-1).tolist()
        token = next(i for i, reached in enumerate(accumulate(probs)) if reached > u)
        ids.append(token)
        if token == EOS:
            break
    return ids[len(prompt) :]


def test_the_same_seed_gives_the_same_draw_and_another_seed_another(model: PreTrainedModel) -> None:
    engine = TransformersEngine(model, [EOS])
    first = engine.draw(PROMPTS, SEEDS, sampled())
    assert engine.draw(PROMPTS, SEEDS, sampled()) == first
    again = engine.draw(PROMPTS, [s + 1000 for s in SEEDS], sampled())
    assert all(a != b for a, b in zip(first, again, strict=True))


def test_a_draw_does_not_depend_on_its_neighbours_in_the_batch(model: PreTrainedModel) -> None:
    engine = TransformersEngine(model, [EOS])
    together = engine.draw(PROMPTS, SEEDS, sampled(24))
    alone = [engine.draw([p], [s], sampled(24))[0] for p, s in zip(PROMPTS, SEEDS, strict=True)]
    reversed_batch = engine.draw(PROMPTS[::-1], SEEDS[::-1], sampled(24))[::-1]
    assert together == alone == reversed_batch


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
def test_draws_are_those_of_single_sequences_without_a_cache(kind: str) -> None:
    model = make(kind)
    drawn = TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, sampled(16))
    expected = [slow_draw(model, p, s, 16) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert [list(d.ids) for d in drawn] == expected
    assert [d.ended for d in drawn] == [e[-1] == EOS for e in expected]


def test_greedy_is_what_generate_gives_in_a_padded_batch(model: PreTrainedModel) -> None:
    drawn = TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, greedy())
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    out = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=12, eos_token_id=EOS, pad_token_id=0
    )
    for one, row in zip(drawn, out[:, width:].tolist(), strict=True):
        assert list(one.ids) == row[: len(one.ids)]
        assert set(row[len(one.ids) :]) <= {0}


def test_greedy_of_a_sliding_window_model_looks_back_no_further_than_its_window(mistral: PreTrainedModel) -> None:
    drawn = TransformersEngine(mistral, [40]).draw(PROMPTS[:3], SEEDS[:3], greedy(16))
    for one, prompt in zip(drawn, PROMPTS, strict=False):
        assert list(one.ids) == slow_greedy(mistral, prompt, 16)[: len(one.ids)]


def ending(model: PreTrainedModel, prompt: Sequence[int], place: int) -> int:
    """A token that greedy decoding of a prompt gives at a place for the first time."""
    ids = slow_greedy(model, prompt, 12)
    assert ids[place] not in ids[:place]
    return ids[place]


@pytest.fixture(scope="module")
def varied(model: PreTrainedModel) -> list[int]:
    """A prompt whose greedy completion begins with three different tokens."""
    return next(p for p in ([a, b] for a in range(2, 41) for b in (3, 4)) if len({*slow_greedy(model, p, 3)}) == 3)


def test_a_draw_ends_with_its_eos_and_keeps_it(model: PreTrainedModel, varied: list[int]) -> None:
    eos = ending(model, varied, 2)
    (drawn,) = TransformersEngine(model, [eos]).draw([varied], [0], greedy())
    assert drawn == Drawn(tuple(slow_greedy(model, varied, 3)), True)


def test_any_of_several_eos_ends_a_draw(model: PreTrainedModel, varied: list[int]) -> None:
    ends = [ending(model, varied, 2), ending(model, varied, 1)]
    (drawn,) = TransformersEngine(model, ends).draw([varied], [0], greedy())
    assert drawn == Drawn(tuple(slow_greedy(model, varied, 2)), True)


def test_an_eos_in_the_prompt_ends_nothing(model: PreTrainedModel) -> None:
    prompt = [18, EOS, 19, EOS]
    expected = slow_greedy(model, prompt, 6)
    assert EOS not in expected
    (drawn,) = TransformersEngine(model, [EOS]).draw([prompt], [0], greedy(6))
    assert drawn == Drawn(tuple(expected), False)


def test_a_draw_that_hits_the_limit_has_not_ended(model: PreTrainedModel) -> None:
    (drawn,) = TransformersEngine(model, [EOS]).draw([PROMPTS[0]], [0], greedy(5))
    assert (len(drawn.ids), drawn.ended) == (5, False)


def test_eos_is_not_drawn_before_the_least_number_of_tokens(model: PreTrainedModel, varied: list[int]) -> None:
    eos = ending(model, varied, 1)
    (free,) = TransformersEngine(model, [eos]).draw([varied], [0], greedy(8))
    assert len(free.ids) == 2
    (kept,) = TransformersEngine(model, [eos]).draw([varied], [0], greedy(8, least=5))
    assert eos not in kept.ids[:5]
    second = next_logits(model, [*varied, kept.ids[0]])
    second[eos] = -torch.inf
    assert kept.ids[1] == int(second.argmax())
    assert len(kept.ids) >= 6 or not kept.ended


def test_at_the_least_number_of_tokens_eos_may_come(model: PreTrainedModel, varied: list[int]) -> None:
    eos = ending(model, varied, 1)
    (drawn,) = TransformersEngine(model, [eos]).draw([varied], [0], greedy(8, least=1))
    assert drawn == Drawn((drawn.ids[0], eos), True)


@pytest.fixture
def forwarded(model: PreTrainedModel) -> Iterator[list[tuple[int, int]]]:
    """(rows, tokens per row) of each forward pass."""
    seen: list[tuple[int, int]] = []

    def note(_module: object, _args: object, kwargs: dict[str, Tensor]) -> None:
        seen.append((kwargs["input_ids"].shape[0], kwargs["input_ids"].shape[1]))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    yield seen
    handle.remove()


def test_rows_that_have_ended_leave_the_batch_and_stop_costing(
    model: PreTrainedModel, forwarded: list[tuple[int, int]]
) -> None:
    prompts, seeds = [[5 + i % 30, 6] for i in range(16)], list(range(16))
    ends = list(range(1, 9))
    drawn = TransformersEngine(model, ends).draw(prompts, seeds, sampled(40))
    lengths = [len(d.ids) for d in drawn]
    assert len(forwarded) == max(lengths) < 40
    assert forwarded[0] == (16, 2)
    assert all(tokens == 1 for _, tokens in forwarded[1:])
    for step, (rows, _) in enumerate(forwarded):
        living = sum(length > step for length in lengths)
        assert living <= rows <= max(living / 0.75, 1)
    assert forwarded[-1][0] < 4


def test_no_prompts_no_draws_and_no_forward_pass(model: PreTrainedModel, forwarded: list[tuple[int, int]]) -> None:
    assert TransformersEngine(model, [EOS]).draw([], [], sampled()) == []
    assert forwarded == []


def test_drawing_leaves_torchs_random_state_alone(model: PreTrainedModel) -> None:
    before = torch.get_rng_state()
    TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, sampled())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_draws_are_as_frequent_as_the_softmax_says(model: PreTrainedModel, temperature: float) -> None:
    count = 6000
    drawn = TransformersEngine(model, []).draw([PROMPTS[0]] * count, range(count), sampled(1, temperature=temperature))
    seen = Counter(d.ids[0] for d in drawn)
    expected = ((next_logits(model, PROMPTS[0]).double() / temperature).softmax(-1) * count).tolist()
    frequent = [token for token, e in enumerate(expected) if e >= 5]
    observed = [seen[token] for token in frequent] + [count - sum(seen[token] for token in frequent)]
    theory = [expected[token] for token in frequent] + [count - sum(expected[token] for token in frequent)]
    if theory[-1] < 5:
        observed, theory = [observed[0] + observed[-1], *observed[1:-1]], [theory[0] + theory[-1], *theory[1:-1]]
    assert len(theory) > 5
    assert chisquare(observed, theory).pvalue > 0.01


def test_uniform_numbers_are_the_rows_own_uniform_and_the_same_on_every_machine() -> None:
    numbers = uniforms([7, 8, 7], 1000)
    assert torch.equal(numbers[0], numbers[2])
    assert torch.equal(uniforms([8], 10)[0], numbers[1, :10])
    assert abs(float(np.corrcoef(numbers[0], numbers[1])[0, 1])) < 0.1
    observed = np.histogram(numbers[:2].numpy(), bins=20, range=(0, 1))[0]
    assert chisquare(observed).pvalue > 0.01
    assert uniforms([2**63 - 1], 2).tolist() == [pytest.approx([0.9258067163090251, 0.18157025027346085])]


def slow_filter(probs: Sequence[float], top_k: int | None, top_p: float) -> list[float]:
    """Top-k, then the likeliest tokens until top_p of what is left is reached; renormalised."""
    kept = dict(enumerate(probs))
    if top_k is not None:
        least = sorted(probs)[-min(top_k, len(probs))]
        kept = {token: p for token, p in kept.items() if p >= least}
    total, reached, nucleus = sum(kept.values()), 0.0, {}
    for token, p in sorted(kept.items(), key=lambda item: -item[1]):
        if reached / total < top_p:
            nucleus[token] = p
        reached += p
    norm = sum(nucleus.values())
    return [nucleus.get(token, 0.0) / norm for token in range(len(probs))]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("top_k", [None, 1, 3, 100])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.01])
def test_top_k_and_top_p_leave_the_slow_filters_distribution(
    temperature: float, top_k: int | None, top_p: float
) -> None:
    logits = torch.tensor([[0.3, 2.0, -1.0, 1.1, 0.0, 1.5, -3.0]])
    grid = (torch.arange(20_000, dtype=torch.double) + 0.5) / 20_000
    picked = pick(logits.expand(20_000, -1), grid, sampled(temperature=temperature, top_k=top_k, top_p=top_p))
    shares = torch.bincount(picked, minlength=7).double() / 20_000
    expected = slow_filter((logits[0].double() / temperature).softmax(-1).tolist(), top_k, top_p)
    assert shares.tolist() == pytest.approx(expected, abs=1e-4)
    assert all(share == 0.0 for share, e in zip(shares.tolist(), expected, strict=True) if e == 0.0)


def test_a_token_without_probability_is_never_picked_at_the_ends_of_the_scale() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.double)
    assert pick(logits, ends, sampled()).tolist() == [1, 3]
    assert pick(logits, ends, sampled(top_p=0.5, top_k=1)).tolist() == [3, 3]


def test_temperature_zero_picks_the_best_token() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    assert pick(logits, torch.tensor([0.99, 0.99]), greedy()).tolist() == [1, 0]


def test_a_model_from_disk_draws_text_that_its_chat_can_read(model_folder: Path) -> None:
    from xpo_ray.chat import Chat
    from xpo_ray.checkpoints import load_model

    chat = Chat.load(str(model_folder), None, "tokenizer")
    engine = TransformersEngine(load_model(model_folder, "float32"), chat.eos_ids)
    prompt = chat.prompt_ids([{"role": "user", "content": "Why is the sky blue?"}])
    (drawn,) = engine.draw([prompt], [1], sampled(20))
    assert 0 < len(drawn.ids) <= 20
    assert "<|end|>" not in chat.decode(drawn.ids)


@pytest.mark.parametrize("kind", ["llama", "mistral", "gpt2"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_waiting_prompts_take_the_places_of_rows_that_have_ended(
    kind: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MOST_ROWS", most)
    made = make(kind)
    drawn = TransformersEngine(made, [EOS]).draw(PROMPTS, SEEDS, sampled(24))
    assert [list(d.ids) for d in drawn] == [slow_draw(made, p, s, 24) for p, s in zip(PROMPTS, SEEDS, strict=True)]
    assert len({len(d.ids) for d in drawn}) > 2, "rows should end at different times"


def test_a_batch_is_as_large_as_its_cache_may_be(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "CACHE_BYTES", 3 * 2 * 2 * 2 * 8 * (9 + 12) * 4)  # three rows of the longest
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda _m, _a, kw: sizes.append(len(kw["input_ids"])), with_kwargs=True)
    together = TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, sampled(12))
    hook.remove()
    assert max(sizes) == 3
    monkeypatch.undo()
    assert TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, sampled(12)) == together


def test_a_prompt_that_is_drawn_several_times_is_read_once(model: PreTrainedModel) -> None:
    sizes: list[tuple[int, ...]] = []
    hook = model.register_forward_pre_hook(
        lambda _m, _a, kw: sizes.append(tuple(kw["input_ids"].shape)), with_kwargs=True
    )
    prompts = [PROMPTS[2]] * 3 + [PROMPTS[0]] * 2
    drawn = TransformersEngine(model, [EOS]).draw(prompts, SEEDS, sampled(12))
    hook.remove()
    assert sizes[0] == (2, 9)
    assert [list(d.ids) for d in drawn] == [slow_draw(model, p, s, 12) for p, s in zip(prompts, SEEDS, strict=True)]


def test_least_lengths_hold_for_rows_that_join_late(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_ROWS", 2)
    drawn = TransformersEngine(model, [EOS]).draw(PROMPTS, SEEDS, sampled(24, min_new_tokens=6))
    assert all(len(d.ids) > 6 for d in drawn if d.ended)
    assert all(EOS not in d.ids[:6] for d in drawn)


def test_rows_that_have_ended_stay_within_the_table_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MOST_ROWS", 2)
    monkeypatch.setattr(engine_module, "REBUILD_BELOW", 0.4)  # an ended row stays beside the other one to its end
    made = make("gpt2")
    prompts = [[5] * 100, [6] * 100, [7, 8]]
    drawn = TransformersEngine(made, [EOS]).draw(prompts, SEEDS[:3], sampled(28))
    assert [list(d.ids) for d in drawn] == [slow_draw(made, p, s, 28) for p, s in zip(prompts, SEEDS[:3], strict=True)]
