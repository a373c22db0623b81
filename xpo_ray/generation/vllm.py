"""The vLLM engine: the one adapter to vLLM, behind the protocol of the transformers engine and of the tested range alone.

Weights come by folder or as tensors; the prefix cache is emptied with each version. An adapter comes by folder, and its model
answers beside it. Draws are seeded request by request, so a draw depends on its neighbours only by rounding. Token ids go in
and come out: the run's own tokenizer made them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from xpo_ray.errors import ModelError
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.installed import served_rank
from xpo_ray.generation.pump import EngineBroken, Pump
from xpo_ray.memory_folder import memory_folder

if TYPE_CHECKING:
    from torch import Tensor
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives and dies with its actor
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the actor has its thread count already, and replicas share the cores
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CONFIGURE_LOGGING": "1",
}
HEAD = "lm_head.weight"
WHOLE_PROMPTS = {"enable_chunked_prefill": False}
"""On a CPU the generator of a seeded request cannot be set back, as vLLM does behind a part of a prompt (0.32: it fails)."""
FREE_AT_START = 0.01
"""Share of a GPU that must be free when an engine starts (vLLM's default: 0.92, as if nobody shared it). What it takes is told
in bytes."""
CPU_BATCH_TOKENS = 8192
"""In one step; a prompt that does not fit into what is left of it waits for the next."""
MOST_TOLD = 600
"""Characters of an error of vLLM's."""
CPU_ADAPTED_TOKENS = 2048
"""The same with adapters, of which the CPU's kernels make a copy for each token. They also take the last adapter for none, so
that requests with and without one cannot share a step there (0.32: index −1 is read as the last of the buffers)."""


@dataclass(frozen=True)
class VllmSettings:
    """What an engine is made with; sizes in tokens and bytes."""

    dtype: Literal["float32", "bfloat16"]
    max_model_len: int
    kv_cache_bytes: int
    tensor_parallel: int = 1
    gpu: bool = False
    adapter_rank: int | None = None
    """The largest rank of adapters that come; None: none ever comes, and vLLM's faster kernels without them are used."""


class VllmEngine:
    """Draws from one set of weights by vLLM; calls of `draw` may come from several threads and share its batch."""

    def __init__(self, path: str, settings: VllmSettings, eos_ids: Sequence[int], revision: str | None = None) -> None:
        """Raises ModelError where vLLM cannot serve the model."""
        self.eos_ids = tuple(eos_ids)
        self._settings = settings
        self._asleep = False
        self._adapter: LoRARequest | None = None
        self._numbers = itertools.count(1)
        os.environ.update(ENVIRONMENT)
        try:
            self._pump = Pump(lambda: _llm(path, settings, revision), mixes=settings.gpu)
            self.logp([0, 0])  # it looks for its kernels at the first step
        except (ValueError, RuntimeError, OSError, NotImplementedError, EngineBroken) as error:
            raise ModelError(
                f"model.path {path}: vLLM cannot serve it: {_reason(error)}; set sampling.engine: transformers"
            ) from error

    def draw(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, *, adapted: bool = True
    ) -> list[Drawn]:
        """One completion per prompt and seed; EOS is looked for in the completion alone, and kept in its ids. Not `adapted`:
        as if no adapter were there."""
        self.wake()
        params = [self._params(seed, sampling) for seed in seeds]
        outputs = self._pump.complete(prompts, params, self._adapter if adapted else None)
        return [self._drawn(output) for output in outputs]

    def load(self, path: str | Path, revision: str | None = None) -> None:
        """Take the weights of a Hugging Face folder of the same architecture."""
        folder = _folder(str(path), revision)
        self._reload(partial(_reload_stored, folder=folder))

    def take(self, weights: dict[str, Tensor]) -> None:
        """Take weights by their names in a checkpoint; tied ones once."""
        from safetensors.torch import save_file

        if self._settings.tensor_parallel == 1:
            return self._reload(partial(_reload, weights=weights.items()))
        with memory_folder(sum(t.nbytes for t in weights.values())) as folder:  # its workers are processes of their own
            save_file({name: t.contiguous() for name, t in weights.items()}, folder / "model.safetensors")
            return self.load(folder)

    def adapt(self, folder: str | Path | None) -> None:
        """Draw with the adapter of a PEFT folder, which is not read again, or with none."""
        from vllm.lora.request import LoRARequest

        self.wake()
        before, self._adapter = self._adapter, None
        number = next(self._numbers)  # never one of before: keys and values of prompts are kept by adapters' names
        new = None if folder is None else LoRARequest(f"adapter-{number}", number, str(folder))
        self._pump.change(lambda llm: _exchange(llm, before, new))
        self._adapter = new

    def logp(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token of ids[1:] behind ids[0], in nats: the canary, as the engine serves it."""
        from vllm import SamplingParams

        self.wake()
        params = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        (output,) = self._pump.complete([ids], [params], self._adapter)
        told: list[Any] = output.prompt_logprobs or []
        values = [position[token].logprob for position, token in zip(told[1:], ids[1:], strict=True)]
        return float(sum(values)) / max(len(values), 1)

    def sleep(self) -> None:
        """Give the accelerator's memory to others until the next call; on a CPU there is nothing to give. Weights and adapter
        go to main memory, not away: whether the next call brings new ones is not known, and without them it would get noise."""
        if self._settings.gpu:
            self._pump.change(self._sleep)

    def wake(self) -> None:
        """Take the memory back."""
        if self._asleep:
            self._pump.change(self._wake)

    def _sleep(self, llm: LLM) -> None:
        if not self._asleep:
            llm.sleep(level=1)
            self._asleep = True

    def _wake(self, llm: LLM) -> None:
        if self._asleep:  # of several calls that come at once the first wakes it
            llm.wake_up()
            self._asleep = False

    def _reload(self, in_worker: Callable[..., None]) -> None:
        """Awake, then new weights, then no keys and values of the old ones: in another order old ones may be served."""
        self.wake()

        def reload(llm: LLM) -> None:
            tied = bool(getattr(llm.llm_engine.model_config.hf_text_config, "tie_word_embeddings", False))
            llm.collective_rpc(in_worker, kwargs={"tied": tied})
            if not llm.reset_prefix_cache():
                raise RuntimeError("vLLM kept keys and values of the weights before: its prefix cache was not emptied")

        self._pump.change(reload)

    def _params(self, seed: int, sampling: Sampling) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or 0,
            seed=seed,
            max_tokens=sampling.max_new_tokens,
            min_tokens=sampling.min_new_tokens,
            stop_token_ids=list(self.eos_ids),
            ignore_eos=True,  # those of the run's own chat template, which stand above, and no others
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _drawn(self, output: RequestOutput) -> Drawn:
        (completion,) = output.outputs
        ids = tuple(completion.token_ids)
        return Drawn(ids, bool(ids) and ids[-1] in self.eos_ids)


def _reason(error: Exception) -> str:
    """What vLLM says, in a sentence or two: without what pydantic puts around it, and without all that it would have taken."""
    told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    told = (
        told.removeprefix("Value error, ")
        .partition(" Supported architectures:")[0]
        .partition(" To allow overriding")[0]
    )
    return " ".join(told.split())[:MOST_TOLD].rstrip(". ")


def _llm(path: str, settings: VllmSettings, revision: str | None) -> LLM:
    import torch
    from vllm import LLM

    more: dict[str, Any] = {"enable_sleep_mode": True} if settings.gpu else {"enforce_eager": True, **WHOLE_PROMPTS}
    if not settings.gpu:
        most = CPU_BATCH_TOKENS if settings.adapter_rank is None else CPU_ADAPTED_TOKENS
        more["max_num_batched_tokens"] = max(settings.max_model_len, most)
    if settings.tensor_parallel > 1:
        more["distributed_executor_backend"] = "mp"  # also in an actor that has a placement group
        if not settings.gpu:
            os.environ["OMP_NUM_THREADS"] = str(max(torch.get_num_threads() // settings.tensor_parallel, 1))
    if settings.adapter_rank is not None:
        more |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": served_rank(settings.adapter_rank)}
    return LLM(
        model=path,
        revision=revision,
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        kv_cache_memory_bytes=settings.kv_cache_bytes,
        gpu_memory_utilization=FREE_AT_START,
        tensor_parallel_size=settings.tensor_parallel,
        skip_tokenizer_init=True,
        generation_config="vllm",
        enable_prefix_caching=True,
        disable_log_stats=True,
        trust_remote_code=False,
        **more,
    )


def _reload_stored(worker: Any, *, folder: str, tied: bool) -> None:
    """In each worker: take the weights of a folder, which it reads for itself."""
    _reload(worker, weights=stored_weights(folder), tied=tied)


def _reload(worker: Any, *, weights: Iterable[tuple[str, Tensor]], tied: bool) -> None:
    worker.reload_weights(weights_iterator=with_head(weights) if tied else weights)


def _exchange(llm: LLM, before: LoRARequest | None, new: LoRARequest | None) -> None:
    """Take an adapter out and put another one in."""
    if before is not None:
        llm.llm_engine.remove_lora(before.lora_int_id)
    if new is not None and not llm.llm_engine.add_lora(new):
        raise RuntimeError(f"vLLM did not take the adapter in {new.lora_path}")


@dataclass(frozen=True)
class Unadapted:
    """An engine with its adapter off; who draws with it on may ask at the same time."""

    engine: VllmEngine

    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
        return self.engine.draw(prompts, seeds, sampling, adapted=False)


def stored_weights(folder: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a folder of safetensors, one at a time."""
    from safetensors import safe_open

    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name)


def with_head(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The weights with the head that is tied to the embeddings: vLLM unties them when it reloads, and would keep the head that
    it had (seen in 0.32)."""
    seen = set()
    embeddings = None
    for name, tensor in weights:
        seen.add(name)
        if name.endswith("embed_tokens.weight"):
            embeddings = tensor
        yield name, tensor
    if embeddings is not None and HEAD not in seen:
        yield HEAD, embeddings


def _folder(path: str, revision: str | None) -> str:
    """A folder on this machine; a hub repository's files come from its cache."""
    if Path(path).is_dir():
        return path
    from huggingface_hub import snapshot_download

    return snapshot_download(path, revision=revision)
