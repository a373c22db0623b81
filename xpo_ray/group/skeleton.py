"""A model without its matrices: built from its config alone, so that no rank ever holds a whole copy.

Matrices have a shape and no storage; what is small (vectors, buffers) is real. `sharding` gives each rank its rows of them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from xpo_ray.architectures import (
    check_architecture,
    freeze_other_parts,
    leave_weights_alone,
    model_class,
    read_config,
)
from xpo_ray.checkpoints import DTYPES
from xpo_ray.errors import ModelError
from xpo_ray.logprobs.attention_kinds import whole_attention
from xpo_ray.model_files import model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def local_folder(path: str, revision: str | None) -> Path:
    """The folder of a model; a hub repository is downloaded first. Raises ModelError."""
    if (folder := model_folder(path)) is not None:
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path {path}: could not be downloaded: {error}; name a folder, or try again") from error


def skeleton(folder: Path, dtype: Literal["float32", "bfloat16"]) -> "PreTrainedModel":
    """A causal language model in eval mode on the meta device, its buffers and vectors real. Raises ModelError."""
    config = read_config(folder)
    try:
        check_architecture(config)
        with torch.device("meta"):
            model = model_class(config)._from_config(config, dtype=DTYPES[dtype])
    except ModelError as error:
        raise ModelError(f"model.path {folder}: {error}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path {folder}: no causal language model could be built: {error}") from error
    _make_buffers(model)
    replace_parameters(model, lambda p: torch.zeros(p.shape, dtype=p.dtype) if p.dim() < 2 else p.detach())
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    leave_weights_alone(model)
    freeze_other_parts(model)
    made: PreTrainedModel = whole_attention(model.eval())
    return made


def as_if_held(model: nn.Module) -> None:
    """Give matrices one number of storage on the CPU, for code that looks at their device but never reads them."""
    replace_parameters(model, lambda p: torch.zeros((), dtype=p.dtype).expand(p.shape) if p.is_meta else p.detach())


def not_held(model: nn.Module) -> None:
    """The other way round: back to the meta device, whatever has one number of storage."""
    replace_parameters(model, lambda p: p.detach().to("meta") if p.dim() > 1 and not any(p.stride()) else p.detach())


def replace_parameters(model: nn.Module, made: Callable[[Tensor], Tensor]) -> None:
    """Put new tensors in the place of all parameters; shared ones stay shared, frozen ones frozen."""
    new: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in new:
                new[id(parameter)] = nn.Parameter(made(parameter), requires_grad=parameter.requires_grad)
            module._parameters[name] = new[id(parameter)]


def _make_buffers(model: "PreTrainedModel") -> None:
    """Compute the buffers that no checkpoint holds (rotary frequencies), as `from_pretrained` does; make room for others."""
    computed = {name for name, _ in model.named_non_persistent_buffers()}
    for name, buffer in list(model.named_buffers()):
        owner, _, own = name.rpartition(".")
        model.get_submodule(owner)._buffers[own] = torch.empty_like(buffer, device="cpu")
    for parameter in model.parameters():
        parameter._is_hf_initialized = True
    owners = {name.rpartition(".")[0] for name in computed}
    for name, module in model.named_modules():
        module._is_hf_initialized = name not in owners
    model.initialize_weights()
