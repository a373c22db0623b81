"""The vLLM engine: the one adapter to vLLM, behind the protocol of the transformers engine and of the tested range alone.

Weights come by folder or as tensors; the prefix cache is emptied with each version. Draws are seeded request by request, so a
draw depends on its neighbours only by rounding. Token ids go in and come out: the run's own tokenizer made them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xpo_ray.errors import ModelError
from xpo_ray.generation.engine import Drawn, Sampling
from xpo_ray.generation.pump import Pump

if TYPE_CHECKING:
    from torch import Tensor
    from vllm import LLM, RequestOutput, SamplingParams

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


@dataclass(frozen=True)
class VllmSettings:
    """What an engine is made with; sizes in tokens and bytes."""

    dtype: Literal["float32", "bfloat16"]
    max_model_len: int
    kv_cache_bytes: int
    tensor_parallel: int = 1
    gpu: bool = False


class VllmEngine:
    """Draws from one set of weights by vLLM; calls of `draw` may come from several threads and share its batch."""

    def __init__(self, path: str, settings: VllmSettings, eos_ids: Sequence[int], revision: str | None = None) -> None:
        """Raises ModelError where vLLM cannot serve the model."""
        self.eos_ids = tuple(eos_ids)
        self._settings = settings
        self._asleep = False
        os.environ.update(ENVIRONMENT)
        try:
            self._pump = Pump(lambda: _llm(path, settings, revision))
        except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
            raise ModelError(
                f"model.path {path}: vLLM cannot serve it: {error}; set sampling.engine: transformers"
            ) from error

    def draw(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Drawn]:
        """One completion per prompt and seed; EOS is looked for in the completion alone, and kept in its ids."""
        self.wake()
        outputs = self._pump.complete(prompts, [self._params(seed, sampling) for seed in seeds])
        return [self._drawn(output) for output in outputs]

    def load(self, path: str | Path, revision: str | None = None) -> None:
        """Take the weights of a Hugging Face folder of the same architecture."""
        self._reload(lambda: stored_weights(_folder(str(path), revision)))

    def take(self, weights: dict[str, Tensor]) -> None:
        """Take weights by their names in a checkpoint; tied ones once."""
        self._reload(lambda: iter(weights.items()))

    def logp(self, ids: Sequence[int]) -> float:
        """Mean log-prob per token of ids[1:] behind ids[0], in nats: the canary, as the engine serves it."""
        from vllm import SamplingParams

        self.wake()
        (output,) = self._pump.complete([ids], [SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)])
        told: list[Any] = output.prompt_logprobs or []
        values = [position[token].logprob for position, token in zip(told[1:], ids[1:], strict=True)]
        return float(sum(values)) / max(len(values), 1)

    def sleep(self) -> None:
        """Give the accelerator's memory to others until the next call; on a CPU there is nothing to give."""
        if self._settings.gpu and not self._asleep:
            self._pump.change(lambda llm: llm.sleep(level=1))
            self._asleep = True

    def wake(self) -> None:
        """Take the memory back."""
        if self._asleep:
            self._pump.change(lambda llm: llm.wake_up())
            self._asleep = False

    def _reload(self, weights: Callable[[], Iterator[tuple[str, Tensor]]]) -> None:
        self.wake()

        def reload(llm: LLM) -> None:
            named: Iterable[tuple[str, Tensor]] = weights()
            if getattr(llm.llm_engine.model_config.hf_text_config, "tie_word_embeddings", False):
                named = with_head(named)
            if self._settings.tensor_parallel > 1:  # its workers are processes of their own
                named = list(named)
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named})
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


def _llm(path: str, settings: VllmSettings, revision: str | None) -> LLM:
    from vllm import LLM

    more: dict[str, Any] = {"enable_sleep_mode": True} if settings.gpu else {"enforce_eager": True, **WHOLE_PROMPTS}
    if not settings.gpu:
        more["max_num_batched_tokens"] = max(settings.max_model_len, CPU_BATCH_TOKENS)
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
