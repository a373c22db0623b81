"""The tensors of a model's folder beside those that its class wants, as transformers itself reads them: renamed, fused, tied.

The model is made without memory, so that a folder of any size takes a moment; no weight is read.
"""

from xpo_ray.architectures import model_class, read_config
from xpo_ray.spec.data import ModelSpec

NAMED = 3


def fault_of_names(model: ModelSpec) -> str | None:
    """What is wrong with the names and shapes of a folder's tensors, if anything. Raises what transformers raises."""
    _, report = model_class(read_config(model.path, model.revision)).from_pretrained(
        model.path,
        revision=model.revision,
        device_map="meta",
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    missing, other = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    unread = sorted(report["unexpected_keys"])
    if missing:
        beside = f" (it holds {_some(unread)}, which the model does not have)" if unread else ""
        return (
            f"the weights lack {_some(missing)}, which would be random{beside}; give a complete causal language model"
        )
    if other:
        name, stored, wanted = other[0]
        return f"{name} has the shape {tuple(stored)} in the weights, {tuple(wanted)} by config.json; they are not of one model"
    return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
