"""Quantised weights, by the config and by the headers: they cannot be trained whole, and what is trained on top of them is not
the model that would be exported.

Some kinds transformers turns back into 16 bits when it loads them (on a CPU mxfp4 and fp8, compressed-tensors on request); the
exported folder would still carry the config of the quantised one. All are refused, with how to make an unquantised folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpo_ray.errors import ModelError
from xpo_ray.model_files import StoredTensor, text_part

FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
    "qmodel_pt.bin": "hqq",
}
"""Files that older tools leave instead of an entry in config.json."""
BY_NAME = {
    ".qweight": "gptq or awq",
    ".qzeros": "gptq or awq",
    ".quant_state.bitsandbytes__nf4": "bitsandbytes",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_scale_inv": "fp8",
    "_proj_blocks": "mxfp4",
}
"""Ends of tensors' names that only quantised weights have."""
SMALL = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I8", "U8")
"""Types of weights' matrices that are not trained."""
WHOLE = ("F64", "F32", "F16", "BF16", "BOOL", "I64", "U8")
"""Types of a model that nobody quantised; the last three are those of masks and counts."""
TURNED_BACK = {
    "mxfp4": "Mxfp4Config(dequantize=True)",
    "fp8": "FineGrainedFP8Config(dequantize=True)",
    "compressed-tensors": "CompressedTensorsConfig(dequantize=True)",
}
"""Kinds that transformers (5.19) can load as whole weights, and the setting that asks for it."""


def refuse_quantised(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> None:
    """Raises ModelError for a quantised model."""
    if (found := _by_config(config) or _by_tensors(tensors) or _by_files(folder, tensors)) is None:
        return
    kind, where = found
    raise ModelError(
        f"model.path {folder}: {where}: weights that are quantised ({kind}) cannot be trained whole; name the repository that "
        f"it was quantised from, {_remedy(kind)}"
    )


def _remedy(kind: str) -> str:
    if (setting := TURNED_BACK.get(kind)) is not None:
        return (
            f"or write whole weights once: AutoModelForCausalLM.from_pretrained(..., quantization_config={setting}), delete "
            "quantization_config from its config, save_pretrained"
        )
    if kind == "bitsandbytes":
        return (
            "or load it where bitsandbytes is installed, model.dequantize(), save_pretrained; if the weights are whole, delete "
            "the entry"
        )
    return "or write whole weights with the tool that quantised it"


def _by_config(config: Mapping[str, Any]) -> tuple[str, str] | None:
    for entry in ("quantization_config", "quantization", "compression_config"):
        for part in (config, text_part(dict(config))):
            if isinstance(given := part.get(entry), dict) and given:
                return _kind(entry, given), f"config.json has {entry}"
    return None


def _by_files(folder: Path, tensors: Mapping[str, StoredTensor]) -> tuple[str, str] | None:
    """A file that is left beside whole weights says nothing."""
    if all(tensor.dtype in WHOLE for tensor in tensors.values()):
        return None
    return next(((kind, f"holds {name}") for name, kind in FILES.items() if (folder / name).exists()), None)


def _kind(entry: str, given: Mapping[str, Any]) -> str:
    """As the config names it; an entry of MLX has no name of a method."""
    if method := given.get("quant_method"):
        return str(method)
    if given.get("load_in_4bit") or given.get("load_in_8bit"):
        return "bitsandbytes"
    return "mlx" if entry == "quantization" else "of an unknown method"


def _by_tensors(tensors: Mapping[str, StoredTensor]) -> tuple[str, str] | None:
    for name, tensor in tensors.items():
        for end, kind in BY_NAME.items():
            if name.endswith(end):
                return kind, f"{tensor.file.name} holds {name}"
        if tensor.dtype in SMALL and len(tensor.shape) == 2 and name.endswith("weight"):
            return tensor.dtype, f"{tensor.file.name} holds {name} as {tensor.dtype}"
    return None
