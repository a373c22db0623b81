"""What a vLLM engine of a run is made with: lengths, keys and values, how many shards share its batch; and what the model's
config says that it cannot do. The preparation of a run checks it, the engines' actors ask for the settings.
"""

import math

from xpo_ray.errors import SpecError
from xpo_ray.generation.installed import adapter_rank
from xpo_ray.generation.vllm import VllmSettings
from xpo_ray.model_files import Architecture, architecture, downloaded_folder, model_folder, positions
from xpo_ray.plan.memory import BYTES, kv_cache_bytes
from xpo_ray.plan.processes import lanes
from xpo_ray.spec.run import RunSpec

LEAST_KV_BYTES, MOST_KV_BYTES = 2**30, 16 * 2**30
BLOCK = {True: 16, False: 128}
"""Tokens whose keys and values vLLM lays aside together, on a GPU and on a CPU."""


def vllm_settings(spec: RunSpec, *, gpu: bool) -> VllmSettings:
    """From the spec and the model's config."""
    return VllmSettings(
        dtype=spec.model.dtype,
        max_model_len=longest(spec),
        kv_cache_bytes=vllm_kv_cache_bytes(spec),
        tensor_parallel=spec.resources.engine_tensor_parallel,
        gpu=gpu,
        adapter_rank=adapter_rank(spec),
    )


def longest(spec: RunSpec) -> int:
    """Tokens of a prompt and its response, at most."""
    return spec.data.max_prompt_tokens + max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)


def vllm_kv_cache_bytes(spec: RunSpec) -> int:
    """As the spec says; else what the shards that share a batch need at their longest, within bounds. vLLM lets requests wait
    that do not fit."""
    if spec.resources.engine_kv_cache_gib is not None:
        return int(spec.resources.engine_kv_cache_gib * 2**30)
    folder = downloaded_folder(spec.model.path, spec.model.revision)
    sizes = architecture(folder) if folder is not None else None
    wanted = LEAST_KV_BYTES if sizes is None else lanes(spec) * kv_cache_bytes(spec, sizes)
    return min(max(wanted, LEAST_KV_BYTES), MOST_KV_BYTES)


def check_served(spec: RunSpec, *, gpu: bool) -> None:
    """Raises SpecError where vLLM cannot draw as the spec says from a model in a folder; of a hub repository it says so itself,
    when the engine is made."""
    folder = model_folder(spec.model.path)
    if folder is None:
        return
    wanted, most = longest(spec), positions(folder)
    if most is not None and wanted > most:
        raise SpecError(
            f"data.max_prompt_tokens {spec.data.max_prompt_tokens} and {wanted - spec.data.max_prompt_tokens} new tokens are "
            f"{wanted}, the model in {folder} has {most} positions: lower one of them, or set sampling.engine: transformers, "
            "which reads on with a warning"
        )
    if (sizes := architecture(folder)) is not None:
        _check_parallel(spec, sizes)
        _check_cache(spec, sizes, wanted, BLOCK[gpu])


def _check_parallel(spec: RunSpec, sizes: Architecture) -> None:
    ways = spec.resources.engine_tensor_parallel
    if sizes.heads % ways:
        fitting = ", ".join(str(n) for n in range(1, min(sizes.heads, 8) + 1) if sizes.heads % n == 0)
        raise SpecError(
            f"resources.engine_tensor_parallel {ways}: vLLM cuts a model along its attention heads, this one has "
            f"{sizes.heads}; take {fitting}"
        )


def _check_cache(spec: RunSpec, sizes: Architecture, wanted: int, block: int) -> None:
    """The longest sequence must fit, in whole blocks of keys and values, beside one that vLLM keeps for itself: it would wait
    for ever. Each of several processes has its share of the heads, one at the least."""
    tokens = (math.ceil(wanted / block) + 1) * block
    least = 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * tokens * BYTES[spec.model.dtype]
    given = vllm_kv_cache_bytes(spec)
    if given * min(spec.resources.engine_tensor_parallel, sizes.kv_heads) < least:
        raise SpecError(
            f"resources.engine_kv_cache_gib: keys and values of one sequence of {wanted} tokens are {least / 2**30:.3g} GiB, "
            f"each engine process has {given / 2**30:.3g}; raise it, or lower data.max_prompt_tokens or sampling.max_new_tokens"
        )
