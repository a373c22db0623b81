"""The vLLM engine against transformers on a small trained model, in float32: greedy tokens, log-probs, seeds, hand-overs."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.tiny import TURNS, tiny_model_folder
from tests.xpo_ray.generation.served import (
    Served,
    another,
    draw,
    draw_in_threads,
    free_bytes,
    load,
    logp,
    served,
    sleep,
    take,
)
from xpo_ray.errors import ModelError
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.installed import vllm_fault

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
]
GREEDY = Sampling(0.0, 1.0, None, 24)
SAMPLED = Sampling(1.5, 1.0, 100, 24)
NEAR = 1e-4
"""Two logits nearer than this may change places by rounding."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(False, id="own head", marks=pytest.mark.long), pytest.param(True, id="tied head")],
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama that has learned its four texts."""
    path = tmp_path_factory.mktemp("trained") / "base"
    tiny_model_folder(path, hidden=128, tied=request.param)
    model = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    batch = tokenizer([f"{q} {a}" for q, a in TURNS], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Served]:
    with served(str(folder), eos_ids(folder)) as process:
        yield process


@pytest.fixture
def prompts(folder: Path) -> list[list[int]]:
    """Sixteen beginnings of different lengths."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer(f"{q} {a}")["input_ids"] for q, a in TURNS]
    return [text[start : start + 4 + 3 * k] for k, start in enumerate((0, 1, 2, 3)) for text in texts]


def eos_ids(folder: Path) -> list[int]:
    return [AutoTokenizer.from_pretrained(folder).eos_token_id]


def model_of(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


def changed(folder: Path, seed: int) -> PreTrainedModel:
    """The model with other weights."""
    model = model_of(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return model


@torch.no_grad()
def disagreements(engine: Served, model: PreTrainedModel, prompts: list[list[int]]) -> int:
    """Greedy tokens that are not transformers' though its best logit leads by more than NEAR; more than none were looked at."""
    wrong = looked_at = 0
    for prompt, drawn in zip(prompts, engine.ask(draw, prompts, range(len(prompts)), GREEDY), strict=True):
        ids = torch.tensor([[*prompt, *drawn.ids]])
        logits_TV = model(ids).logits[0, len(prompt) - 1 : -1]
        best_T2 = logits_TV.topk(2).values
        clear_T = best_T2[:, 0] - best_T2[:, 1] > NEAR
        wrong += int((clear_T & (logits_TV.argmax(-1) != ids[0, len(prompt) :])).sum())
        looked_at += int(clear_T.sum())
    assert looked_at > 50
    return wrong


def test_greedy_tokens_are_those_of_transformers(engine: Served, folder: Path, prompts: list[list[int]]) -> None:
    assert disagreements(engine, model_of(folder), prompts) == 0


def test_the_canary_is_the_mean_log_prob_of_its_tokens(engine: Served, folder: Path, prompts: list[list[int]]) -> None:
    ids = torch.tensor([prompts[-1]])
    logps_TV = torch.log_softmax(model_of(folder)(ids).logits[0, :-1], -1)
    expected = logps_TV.gather(-1, ids[0, 1:, None]).mean().item()
    assert engine.ask(logp, prompts[-1]) == pytest.approx(expected, abs=1e-5)


def test_after_each_hand_over_by_folder_or_tensors_the_new_weights_draw(
    engine: Served, folder: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    first, second = changed(folder, 1), changed(folder, 2)
    second.save_pretrained(tmp_path / "second")
    engine.ask(take, stored(first))
    assert disagreements(engine, first, prompts) == 0
    engine.ask(load, str(tmp_path / "second"))
    assert disagreements(engine, second, prompts) == 0
    engine.ask(load, str(folder))
    assert disagreements(engine, model_of(folder), prompts) == 0


def stored(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What is shipped: a tied head once, under the name of the embeddings."""
    tied = model.config.tie_word_embeddings
    return {name: tensor for name, tensor in model.state_dict().items() if not (tied and name == "lm_head.weight")}


@pytest.fixture
def on_gpu(folder: Path) -> Iterator[Served]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    with served(str(folder), eos_ids(folder), gpu=True) as process:
        yield process


def mean_logp(model: PreTrainedModel, ids: list[int]) -> float:
    with torch.no_grad():
        logps_TV = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1], -1)
    return float(logps_TV.gather(-1, torch.tensor(ids)[1:, None]).mean())


@pytest.mark.gpu
def test_an_engine_that_slept_draws_as_before_and_weights_that_come_meanwhile_are_served(
    on_gpu: Served, folder: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    """Of several calls that find it asleep the first wakes it; what a hand-over wakes has no keys and values of before."""
    drawn, text = on_gpu.ask(draw, prompts, range(16), GREEDY), prompts[-1] * 8
    awake = on_gpu.ask(logp, text)
    held = on_gpu.ask(free_bytes)
    on_gpu.ask(sleep)
    assert on_gpu.ask(free_bytes) - held > 2**27, "half of its keys and values at the least"
    parts = [prompts[k : k + 4] for k in range(0, 16, 4)]
    assert on_gpu.ask(draw_in_threads, parts, [list(range(k, k + 4)) for k in range(0, 16, 4)], GREEDY) == drawn
    first, second = changed(folder, 1), changed(folder, 2)
    second.save_pretrained(tmp_path / "second")
    for model, hand_over, given in ((first, take, stored(first)), (second, load, str(tmp_path / "second"))):
        on_gpu.ask(sleep)
        on_gpu.ask(hand_over, given)
        assert on_gpu.ask(logp, text) == pytest.approx(mean_logp(model, text), abs=0.05)
        assert on_gpu.ask(draw, prompts, range(16), GREEDY) != drawn
    on_gpu.ask(sleep)
    on_gpu.ask(load, str(folder))
    assert on_gpu.ask(logp, text) == pytest.approx(awake, abs=1e-6)
    assert on_gpu.ask(draw, prompts, range(16), GREEDY) == drawn


def test_a_draw_depends_on_its_own_seed_and_not_on_its_neighbours(engine: Served, prompts: list[list[int]]) -> None:
    seeds = list(range(100, 116))
    together = engine.ask(draw, prompts, seeds, SAMPLED)
    assert engine.ask(draw, prompts[3:5], seeds[3:5], SAMPLED) == together[3:5]
    assert engine.ask(draw, prompts, range(200, 216), SAMPLED) != together
    parts = [prompts[k : k + 4] for k in range(0, 16, 4)]
    assert engine.ask(draw_in_threads, parts, [seeds[k : k + 4] for k in range(0, 16, 4)], SAMPLED) == together


def test_eos_ends_a_draw_and_stays_in_its_ids_but_not_before_the_least_length(
    engine: Served, folder: Path, prompts: list[list[int]]
) -> None:
    (end,) = eos_ids(folder)
    hot = Sampling(2.0, 1.0, None, 64)
    drawn = engine.ask(draw, prompts * 8, range(128), hot)
    ended = [d for d in drawn if d.ended]
    assert ended
    assert all(d.ids[-1] == end and end not in d.ids[:-1] for d in ended)
    assert all(len(d.ids) == 64 for d in drawn if not d.ended)
    late = engine.ask(draw, prompts * 8, range(128), Sampling(2.0, 1.0, None, 64, min_new_tokens=60))
    assert min(len(d.ids) for d in late) >= 60


def test_a_prompt_that_is_too_long_is_refused_and_the_engine_goes_on(engine: Served, prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="maximum context length is 256"):
        engine.ask(draw, [prompts[0], prompts[0] * 100], [1, 2], GREEDY)
    assert len(engine.ask(draw, prompts[:2], [1, 2], GREEDY)) == 2
    assert engine.ask(draw, [], [], GREEDY) == []


def test_what_vllm_cannot_serve_is_said_in_a_sentence_with_what_to_do(
    engine: Served, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "openai-gpt", "architectures": ["OpenAIGPTLMHeadModel"]}')
    with pytest.raises(ModelError) as unknown:
        engine.ask(another, str(tmp_path), 256)
    assert str(unknown.value) == (
        f"model.path {tmp_path}: vLLM cannot serve it: Model architectures ['OpenAIGPTLMHeadModel'] are not supported for now; "
        "set sampling.engine: transformers"
    )
    with pytest.raises(
        ModelError, match=r"max_model_len \(4096\) is greater than .*; set sampling.engine: transformers$"
    ) as long:
        engine.ask(another, str(folder), 4096)
    assert len(str(long.value)) < 500


@pytest.mark.long
def test_a_model_whose_heads_have_no_kernel_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    small = tiny_model_folder(tmp_path / "small", hidden=32)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        refused = process.submit(another, str(small), 256).exception(timeout=240)
    assert isinstance(refused, ModelError)
    assert "Unsupported CPU attention configuration: head_dim=8" in str(refused)


def test_more_prompts_than_a_step_takes_wait_for_the_next_one(engine: Served, prompts: list[list[int]]) -> None:
    long = [(prompt * 60)[:200] for prompt in prompts] * 4  # 12,800 tokens
    few = Sampling(1.5, 1.0, 100, 2)
    drawn = engine.ask(draw, long, range(64), few)
    assert engine.ask(draw, long[-3:], range(61, 64), few) == drawn[-3:]
