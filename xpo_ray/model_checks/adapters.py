"""Adapters where a model should be: a folder that is an adapter, and a model's folder that holds one beside its weights.

transformers puts an adapter that it finds into the model that it loads, without a word; whoever trains that would train on top
of it and write something else than it was given.
"""

import json
from pathlib import Path

from xpo_ray.errors import ModelError

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin", "adapter.safetensors", "pytorch_adapter.bin")
NOT_MERGED = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT", "CPT")
"""Kinds of PEFT that add to what the model reads; no weights of a model are the same as with them."""


def refuse_adapters(folder: Path, field: str) -> None:
    """Raises ModelError where a folder holds an adapter; `field` is where the spec names it."""
    own = folder / CONFIG
    lonely = not (folder / "config.json").exists() and any((folder / name).exists() for name in WEIGHTS)
    if not own.exists() and not lonely:
        return
    kind, base = _told(own)
    named = f"an adapter ({kind}) of {base}"
    if (folder / "config.json").exists():
        raise ModelError(
            f"{field} {folder}: holds a model and {named}, which transformers would put into it unsaid; move {CONFIG} and "
            f"{' or '.join(WEIGHTS[:2])} to another folder, or {_merging(folder, kind, base)} and name that folder"
        )
    raise ModelError(f"{field} {folder}: is {named}, not a model; {_remedy(folder, kind, base)}")


def _remedy(folder: Path, kind: str, base: str) -> str:
    return f"{_merging(folder, kind, base)} and name that folder, or name {base} and set model.lora for a new adapter"


def _merging(folder: Path, kind: str, base: str) -> str:
    if kind in NOT_MERGED:
        return f"an adapter of this kind cannot be merged into {base}: train {base} itself"
    return (
        f"merge it first with `PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base!r}), {str(folder)!r})"
        ".merge_and_unload().save_pretrained(DIR)`, add the tokenizer,"
    )


def _told(config: Path) -> tuple[str, str]:
    """The kind of adapter and its base."""
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
        return str(read.get("peft_type") or "of an unknown kind"), str(read.get("base_model_name_or_path") or "a base")
    except (OSError, ValueError, AttributeError):
        return "of an unknown kind", "a base that its config does not name"
