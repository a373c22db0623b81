"""Estimates from draws of a model with five tokens, beside exact values: every response is enumerated."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from xpo_ray.evaluation.metrics import kl_estimates
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.transformers import TransformersEngine

pytestmark = pytest.mark.usefixtures("one_thread")

VOCABULARY, EOS, PROMPT, MOST = 5, 1, [2, 3], 3
DRAWS = 4000
SCALE = 0.25
"""Of the random weights: large enough that the two models differ, small enough that each token may be drawn."""


def model(seed: int) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, eos_token_id=EOS, initializer_range=SCALE, **sizes))
    return made.eval()


@pytest.fixture(scope="module")
def policy() -> LlamaForCausalLM:
    return model(0)


@pytest.fixture(scope="module")
def base() -> LlamaForCausalLM:
    return model(1)


def responses() -> Iterator[tuple[int, ...]]:
    """All that can be drawn: up to the first EOS, or of the most tokens."""
    for length in range(1, MOST + 1):
        for ids in product(range(VOCABULARY), repeat=length):
            if EOS not in ids[:-1] and (ids[-1] == EOS or length == MOST):
                yield ids


@torch.no_grad()
def steps(of: LlamaForCausalLM, ids: tuple[int, ...]) -> Tensor:
    """Log-probs of all tokens at each place of a response, in float64."""
    logits: Tensor = of(input_ids=torch.tensor([[*PROMPT, *ids]])).logits[0]
    return logits[len(PROMPT) - 1 : -1].double().log_softmax(-1)


def logp(of: LlamaForCausalLM, ids: tuple[int, ...]) -> float:
    return float(sum(row[token] for row, token in zip(steps(of, ids), ids, strict=True)))


def drawn_logp(of: LlamaForCausalLM, ids: tuple[int, ...], sampling: Sampling) -> float:
    """Log-prob of drawing a response: at a temperature, from the k likeliest tokens, without an early EOS."""
    total = 0.0
    for place, (row, token) in enumerate(zip(steps(of, ids), ids, strict=True)):
        scores = row / sampling.temperature
        if place < sampling.min_new_tokens:
            scores[EOS] = -math.inf
        if sampling.top_k is not None:
            scores[scores < scores.topk(sampling.top_k).values[-1]] = -math.inf
        total += float(scores.log_softmax(-1)[token])
    return total


def exact(policy: LlamaForCausalLM, base: LlamaForCausalLM, sampling: Sampling) -> float:
    """The expectation of log π − log base over what is drawn from π."""
    every = list(responses())
    chances = [math.exp(drawn_logp(policy, ids, sampling)) for ids in every]
    assert sum(chances) == pytest.approx(1.0, abs=1e-6)
    return sum(p * (logp(policy, ids) - logp(base, ids)) for p, ids in zip(chances, every, strict=True) if p)


def estimated(policy: LlamaForCausalLM, base: LlamaForCausalLM, sampling: Sampling) -> tuple[float, float]:
    """The mean log-ratio of draws, and its standard error."""
    drawn = TransformersEngine(policy, (EOS,)).draw([PROMPT] * DRAWS, range(DRAWS), sampling)
    known = {ids: logp(policy, ids) - logp(base, ids) for ids in {d.ids for d in drawn}}
    got = kl_estimates(np.array([known[d.ids] for d in drawn]))
    assert got["kl/k1"] is not None
    assert got["kl/k1_sem"] is not None
    return got["kl/k1"], got["kl/k1_sem"]


def test_draws_from_the_models_own_distribution_estimate_the_exact_kl(
    policy: LlamaForCausalLM, base: LlamaForCausalLM
) -> None:
    own = Sampling(1.0, 1.0, None, MOST)
    assert own.own_distribution
    kl = sum(math.exp(logp(policy, ids)) * (logp(policy, ids) - logp(base, ids)) for ids in responses())
    assert exact(policy, base, own) == pytest.approx(kl)
    mean, sem = estimated(policy, base, own)
    assert abs(mean - kl) < 5 * sem


@pytest.mark.parametrize(
    "sampling",
    [Sampling(1.0, 1.0, None, MOST, 2), Sampling(0.5, 1.0, None, MOST), Sampling(1.0, 1.0, 2, MOST)],
    ids=["min_new_tokens", "temperature", "top_k"],
)
def test_other_draws_estimate_a_log_ratio_that_is_no_kl_and_is_not_called_so(
    policy: LlamaForCausalLM, base: LlamaForCausalLM, sampling: Sampling
) -> None:
    mean, sem = estimated(policy, base, sampling)
    assert abs(mean - exact(policy, base, sampling)) < 5 * sem
    assert abs(mean - exact(policy, base, Sampling(1.0, 1.0, None, MOST))) > 10 * sem
    assert not sampling.own_distribution


@pytest.mark.parametrize("sampling", [Sampling(0.0, 1.0, None, MOST), Sampling(1.0, 0.9, None, MOST)])
def test_greedy_and_nucleus_draws_are_from_another_distribution_too(sampling: Sampling) -> None:
    assert not sampling.own_distribution
