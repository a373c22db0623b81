"""A vLLM engine that is cut over two processes, on a CPU for real: tokens, hand-overs, and the death of one of the two."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from tests.tiny import tiny_model_folder
from tests.xpo_ray.generation.served import Served, draw, load, logp, served, take
from xpo_ray.generation.engine import Sampling
from xpo_ray.generation.installed import vllm_fault
from xpo_ray.generation.pump import EngineBroken

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(vllm_fault() is not None, reason=f"{vllm_fault()}"),
]
GREEDY = Sampling(0.0, 1.0, None, 24)
NEAR = 1e-4
"""Two logits nearer than this may change places by rounding."""
PROMPTS = [list(range(first, first + length)) for first in (5, 40, 77, 130) for length in (3, 8, 20, 33)]


@pytest.fixture(scope="module", params=[False, True], ids=["own head", "tied head"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("cut") / "base", hidden=128, tied=request.param)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Served]:
    with served(str(folder), [1], tensor_parallel=2) as process:
        yield process


def other(folder: Path, seed: int) -> PreTrainedModel:
    """The model with other weights."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return model


@torch.no_grad()
def wrong(engine: Served, model: PreTrainedModel) -> int:
    """Greedy tokens that are not transformers' though its best logit leads by more than NEAR; most were looked at."""
    found = looked_at = drawn = 0
    for prompt, one in zip(PROMPTS, engine.ask(draw, PROMPTS, range(len(PROMPTS)), GREEDY), strict=True):
        ids = torch.tensor([[*prompt, *one.ids]])
        logits_TV = model(ids).logits[0, len(prompt) - 1 : -1]
        best_T2 = logits_TV.topk(2).values
        clear_T = best_T2[:, 0] - best_T2[:, 1] > NEAR
        found += int((clear_T & (logits_TV.argmax(-1) != ids[0, len(prompt) :])).sum())
        looked_at += int(clear_T.sum())
        drawn += len(one.ids)
    assert looked_at > 0.9 * drawn
    return found


def workers(engine: Served) -> list[psutil.Process]:
    """The processes that an engine has made and that compute."""
    children = psutil.Process(engine.ask(os.getpid)).children(recursive=True)
    return [p for p in children if "resource_tracker" not in " ".join(p.cmdline())]


def test_tokens_are_those_of_transformers_also_after_hand_overs_by_folder_and_as_tensors(
    engine: Served, folder: Path, tmp_path: Path
) -> None:
    assert len(workers(engine)) == 2
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert wrong(engine, model) == 0
    first, second = other(folder, 1), other(folder, 2)
    stored = {n: t for n, t in first.state_dict().items() if not (model.config.tie_word_embeddings and "lm_head" in n)}
    engine.ask(take, stored)
    assert wrong(engine, first) == 0
    second.save_pretrained(tmp_path / "second")
    engine.ask(load, str(tmp_path / "second"))
    assert wrong(engine, second) == 0
    ids = torch.tensor([PROMPTS[-1]])
    with torch.no_grad():
        logps_TV = torch.log_softmax(second(ids).logits[0, :-1], -1)
    expected = logps_TV.gather(-1, ids[0, 1:, None]).mean().item()
    assert engine.ask(logp, PROMPTS[-1]) == pytest.approx(expected, abs=1e-5)


def test_an_engine_that_loses_a_process_is_broken_and_leaves_none_behind(folder: Path) -> None:
    with served(str(folder), [1], tensor_parallel=2) as engine:
        first, second = workers(engine)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(EngineBroken, match="the engine has lost a process"):
            engine.ask(load, str(folder))
        with pytest.raises(EngineBroken, match="the engine failed before"):
            engine.ask(draw, PROMPTS, range(len(PROMPTS)), GREEDY)
        engine_pid = engine.ask(os.getpid)
        os.kill(engine_pid, signal.SIGKILL)
        _, alive = psutil.wait_procs([second], timeout=30)
        assert not alive


def test_the_processes_of_an_engine_that_is_killed_end_with_it(folder: Path) -> None:
    with served(str(folder), [1], tensor_parallel=2) as engine:
        both = workers(engine)
        os.kill(engine.ask(os.getpid), signal.SIGKILL)
        began = time.monotonic()
        _, alive = psutil.wait_procs(both, timeout=30)
        print(f"FIGURES gone after {time.monotonic() - began:.1f} s")
        assert not alive
