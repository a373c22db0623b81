"""Reading and writing models and the trainer's state: Hugging Face folders of safetensors, never pickle.

<checkpoint>/model/      config, weights (float32), tokenizer, generation config: the export and the next reference; with
                         model.lora an adapter and the tokenizer (xpo_ray.adapters), of which the run's result is merged
<checkpoint>/trainer/    optimizer moments, random state, position; left out where the optimizer starts anew anyway; of several
                         workers by the rows that each had (xpo_ray.group.optimizer_state), which one worker reads as well
"""

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import AutoTokenizer, GenerationConfig
from transformers.utils.hub import cached_file

from xpo_ray.architectures import (
    check_architecture,
    freeze_other_parts,
    has_other_parts,
    leave_weights_alone,
    model_class,
    read_config,
)
from xpo_ray.errors import ModelError
from xpo_ray.logprobs.attention_kinds import whole_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOG = logging.getLogger(__name__)
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
"""What reads images and audio for a model, beside its tokenizer."""
DTYPES: dict[Literal["float32", "bfloat16"], torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(
    path: str | Path, dtype: Literal["float32", "bfloat16"], revision: str | None = None
) -> "PreTrainedModel":
    """A causal language model in eval mode (no dropout) from a folder or a hub repository; safetensors only. Vision and audio
    parts are there, and frozen. Raises ModelError."""
    config = read_config(path, revision)
    try:
        check_architecture(config)
        model: PreTrainedModel = model_class(config).from_pretrained(
            str(path), revision=revision, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
        )
    except ModelError as error:
        raise ModelError(f"model.path {path}: {error}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path {path}: no causal language model could be loaded: {error}") from error
    leave_weights_alone(model)
    freeze_other_parts(model)
    return whole_attention(model.eval())


def save_model(model: "PreTrainedModel", tokenizer_from: str | Path, folder: Path, revision: str | None = None) -> None:
    """Write a Hugging Face folder that `from_pretrained` loads, tokenizer and image processor included."""
    mend_generation_config(model)
    model.save_pretrained(folder)
    if has_other_parts(model.config):
        copy_processor(tokenizer_from, folder, revision)
    save_tokenizer(tokenizer_from, folder, revision)


def mend_generation_config(model: "PreTrainedModel") -> None:
    """Let the generation config be one that transformers saves: it reads what it then refuses to write.

    Servers read temperature, top-p and top-k whatever do_sample says, so it is set where they are there; what cannot be mended
    so is left out but for the tokens' ids.
    """
    config, given = model.config, model.generation_config
    if given is None:
        return
    for name, value in config._get_generation_parameters().items():  # an old folder's, which belong elsewhere
        if getattr(given, name, None) is None:
            setattr(given, name, value)
        delattr(config, name)
    if (fault := _unsaveable(given)) is None:
        return
    LOG.warning("the model's generation config cannot be saved as it is (%s): it is mended", fault)
    given.do_sample = True
    if _unsaveable(given) is not None:
        ids = {name: getattr(given, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig(**ids)


def _unsaveable(config: Any) -> str | None:
    try:
        config.validate(strict=True)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


def copy_processor(source: str | Path, folder: Path, revision: str | None) -> None:
    """What reads images and audio, from a model's folder or repository into another folder."""
    for name in PROCESSOR_FILES:
        file = cached_file(str(source), name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if file is not None:
            shutil.copyfile(file, folder / name)


def save_tokenizer(tokenizer_from: str | Path, folder: Path, revision: str | None = None) -> None:
    """Write the tokenizer of a model into a folder."""
    AutoTokenizer.from_pretrained(str(tokenizer_from), revision=revision).save_pretrained(folder)


def save_trainer_state(folder: Path, model: nn.Module, optimizer: Optimizer, position: dict[str, int]) -> None:
    """Write optimizer moments, random state and position."""
    folder.mkdir()
    names = {id(p): n for n, p in model.named_parameters()}
    tensors = {"rng": torch.get_rng_state()}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"{names[id(parameter)]}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    save_file(tensors, folder / "state.safetensors")
    (folder / "position.json").write_text(json.dumps(position))


def load_trainer_state(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Put optimizer moments and random state back; the optimizer must be new and over the model's parameters."""
    if not (folder / "state.safetensors").exists():  # a group of trainers wrote it
        from xpo_ray.group.optimizer_state import load_state

        return load_state(folder, model, optimizer)
    tensors = load_file(folder / "state.safetensors")
    torch.set_rng_state(tensors.pop("rng"))
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, item = key.rpartition("/")
        device = parameters[name].device  # fused AdamW keeps its steps there too
        optimizer.state[parameters[name]][item] = value.to(device)
    return None


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights as contiguous float32 tensors on the CPU, tied ones once, to travel by object ref."""
    seen: set[int] = set()
    out: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            out[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return out


def put_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into a model. Raises ValueError, before anything is copied, where a name or shape does not fit."""
    own = model.state_dict()
    if unknown := sorted(set(weights) - set(own)):
        raise ValueError(f"weights for parameters that the model lacks: {unknown[:3]}")
    given = {own[name].data_ptr() for name in weights}
    if missing := sorted(name for name, tensor in own.items() if tensor.data_ptr() not in given):
        raise ValueError(f"no weights for parameters of the model: {missing[:3]}")
    if misshapen := sorted(name for name, tensor in weights.items() if tensor.shape != own[name].shape):
        raise ValueError(f"weights of another shape than the model's parameters: {misshapen[:3]}")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
