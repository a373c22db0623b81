"""A vLLM engine in a process of its own, as an actor has one: it would leave the tests' process another torch behind."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.vllm import Unadapted, VllmEngine, VllmSettings

Found = TypeVar("Found")
_engine: list[VllmEngine] = []


class Served:
    """The engine's verbs, called over there."""

    def __init__(self, process: ProcessPoolExecutor) -> None:
        self._process = process

    def ask(self, function: Callable[..., Found], *args: Any) -> Found:
        return self._process.submit(function, *args).result(timeout=240)


@contextmanager
def served(
    path: str,
    eos_ids: Sequence[int],
    *,
    adapter_rank: int | None = None,
    tensor_parallel: int = 1,
    gpu: bool = False,
    dtype: Literal["float32", "bfloat16"] | None = None,
    kv_cache_bytes: int = 2**28,
) -> Iterator[Served]:
    """A process that serves a model for sequences up to 256 tokens: in float32, or in bfloat16 on a GPU and where asked."""
    environment = {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    computes = dtype or ("bfloat16" if gpu else "float32")
    settings = VllmSettings(computes, 256, kv_cache_bytes, tensor_parallel, gpu, adapter_rank)
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, spawn, _make, (path, settings, eos_ids)) as process:
            yield Served(process)
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _make(path: str, settings: VllmSettings, eos_ids: Sequence[int]) -> None:
    _engine.append(VllmEngine(path, settings, eos_ids))


def another(path: str, most_tokens: int) -> None:
    """Try to make a second engine."""
    VllmEngine(path, VllmSettings("float32", most_tokens, 2**28), [1])


def draw(prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
    return _engine[0].draw(prompts, seeds, sampling)


def draw_in_threads(
    parts: Sequence[Sequence[Sequence[int]]], seeds: Sequence[Sequence[int]], sampling: Sampling
) -> list[Drawn]:
    """Each part from a thread of its own, at once."""
    with ThreadPoolExecutor(len(parts)) as pool:
        return [one for drawn in pool.map(lambda p, s: draw(p, s, sampling), parts, seeds) for one in drawn]


def load(path: str) -> None:
    _engine[0].load(path)


def take(weights: dict[str, Any]) -> None:
    _engine[0].take(weights)


def adapt(folder: str | None) -> None:
    _engine[0].adapt(folder)


def draw_both(
    prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling
) -> tuple[list[Drawn], list[Drawn]]:
    """With the adapter and with none, at once."""
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(each.draw, prompts, seeds, sampling) for each in (_engine[0], Unadapted(_engine[0]))]
        return made[0].result(), made[1].result()


def sleep() -> None:
    _engine[0].sleep()


def free_bytes() -> int:
    """Of the GPU."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return free


def logp(ids: Sequence[int]) -> float:
    return _engine[0].logp(ids)
