"""What a vLLM engine of a run is made with: lengths, keys and values, and how many shards share its batch."""

from xpo_ray.generation.installed import adapter_rank
from xpo_ray.generation.vllm import VllmSettings
from xpo_ray.model_files import architecture, model_folder
from xpo_ray.plan.memory import kv_cache_bytes
from xpo_ray.plan.processes import lanes
from xpo_ray.spec.run import RunSpec

LEAST_KV_BYTES, MOST_KV_BYTES = 2**30, 64 * 2**30


def vllm_settings(spec: RunSpec, *, gpu: bool) -> VllmSettings:
    """From the spec and the model's config."""
    new = max(spec.sampling.max_new_tokens, spec.evaluation.max_new_tokens or 0)
    return VllmSettings(
        dtype=spec.model.dtype,
        max_model_len=spec.data.max_prompt_tokens + new,
        kv_cache_bytes=vllm_kv_cache_bytes(spec),
        tensor_parallel=spec.resources.engine_tensor_parallel,
        gpu=gpu,
        adapter_rank=adapter_rank(spec),
    )


def vllm_kv_cache_bytes(spec: RunSpec) -> int:
    """As the spec says; else what the shards that share a batch need at their longest, within bounds."""
    if spec.resources.engine_kv_cache_gib is not None:
        return int(spec.resources.engine_kv_cache_gib * 2**30)
    folder = model_folder(spec.model.path)
    sizes = architecture(folder) if folder is not None else None
    wanted = LEAST_KV_BYTES if sizes is None else lanes(spec) * kv_cache_bytes(spec, sizes)
    return min(max(wanted, LEAST_KV_BYTES), MOST_KV_BYTES)
