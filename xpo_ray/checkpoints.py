"""Reading and writing models and the trainer's state: Hugging Face folders of safetensors, never pickle.

<checkpoint>/model/      config, weights (float32), tokenizer, generation config: the export and the next reference; with
                         model.lora an adapter and the tokenizer (xpo_ray.adapters), of which the run's result is merged
<checkpoint>/trainer/    optimizer moments, random state, position; left out where the optimizer starts anew anyway; of several
                         workers by the rows that each had (xpo_ray.group.optimizer_state), which one worker reads as well
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from xpo_ray.errors import ModelError
from xpo_ray.logprobs.attention_kinds import whole_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES: dict[Literal["float32", "bfloat16"], torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load_model(
    path: str | Path, dtype: Literal["float32", "bfloat16"], revision: str | None = None
) -> "PreTrainedModel":
    """A causal language model in eval mode (no dropout) from a folder or a hub repository; safetensors only."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(path), revision=revision, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"model.path {path}: no causal language model could be loaded: {error}") from error
    return whole_attention(model.eval())


def save_model(model: "PreTrainedModel", tokenizer_from: str | Path, folder: Path, revision: str | None = None) -> None:
    """Write a Hugging Face folder that `from_pretrained` loads, tokenizer included."""
    model.save_pretrained(folder)
    save_tokenizer(tokenizer_from, folder, revision)


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
