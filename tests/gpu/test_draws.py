"""The transformers engine on each device: its draws beside the CPU's, its seeds, and what a sleeping policy leaves free."""

from pathlib import Path

import pytest
import torch

from tests.xpo_ray.test_policy import CANARY, draw, loaded
from xpo_ray.checkpoints import load_model
from xpo_ray.devices import CPU
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.transformers import TransformersEngine

PROMPTS = [[30, 31, 32], [40], [50, 51], [30, 31, 32], [60, 61, 62, 63]]
GREEDY, SAMPLED = Sampling(0.0, 1.0, None, 24), Sampling(1.0, 0.95, 50, 24, min_new_tokens=2)
APART = 1e-4
"""Best logits that are nearer to each other than this may change places by rounding."""


def drawn(folder: Path, device: torch.device, sampling: Sampling, first_seed: int = 0) -> list[Drawn]:
    engine = TransformersEngine(load_model(folder, "float32").to(device), [1])
    return engine.draw(PROMPTS, [first_seed + i for i in range(len(PROMPTS))], sampling)


@torch.no_grad()
def near_ties(folder: Path, prompt: list[int], ids: tuple[int, ...]) -> int | None:
    """The first place of a completion at which the CPU's two best logits are nearer than APART."""
    logits = load_model(folder, "float32")(input_ids=torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    best, next_best = logits.topk(2, dim=-1).values.unbind(-1)
    close = (best - next_best < APART).nonzero().flatten().tolist()
    return close[0] if close else None


def test_greedy_draws_are_the_cpus_wherever_the_best_logits_are_apart(broad_folder: Path, device: torch.device) -> None:
    expected = drawn(broad_folder, CPU, GREEDY)
    for prompt, own, cpus in zip(PROMPTS, drawn(broad_folder, device, GREEDY), expected, strict=True):
        sure = near_ties(broad_folder, prompt, cpus.ids)
        assert own.ids[:sure] == cpus.ids[:sure]
        assert len(cpus.ids[:sure]) > 4, "a model whose best logits are so near proves nothing"


def test_sampled_draws_follow_from_their_seeds_alone(broad_folder: Path, device: torch.device) -> None:
    first = drawn(broad_folder, device, SAMPLED)
    assert drawn(broad_folder, device, SAMPLED) == first
    others = drawn(broad_folder, device, SAMPLED, first_seed=100)
    assert all(a.ids != b.ids for a, b in zip(first, others, strict=True))
    assert first[0].ids != first[3].ids  # the same prompt, another seed


def test_draws_in_bfloat16_come_from_the_weights_that_score(broad_folder: Path, device: torch.device) -> None:
    one = loaded(broad_folder, dtype="bfloat16")
    assert (one.engine.model.dtype, one.scorer.dtype) == (torch.bfloat16, torch.float32)
    assert {p.device.type for m in (one.engine.model, one.scorer) for p in m.parameters()} == {device.type}
    assert len(draw(one, 0)) == 2
    assert one.canary(CANARY) == pytest.approx(loaded(broad_folder).canary(CANARY), abs=0.02)


def test_a_policy_that_sleeps_leaves_the_gpu_and_draws_the_same_when_it_wakes(
    broad_folder: Path, device: torch.device
) -> None:
    one = loaded(broad_folder)
    before, canary = draw(one, 0), one.canary(CANARY)
    weights = sum(p.nbytes for p in one.scorer.parameters())
    held = torch.cuda.memory_allocated() if device.type == "cuda" else weights
    one.sleep()
    assert {p.device for p in one.scorer.parameters()} == {CPU}
    if device.type == "cuda":
        assert held - torch.cuda.memory_allocated() >= weights
    assert (draw(one, 0), one.canary(CANARY)) == (before, canary)
    assert one.scorer.device.type == device.type
