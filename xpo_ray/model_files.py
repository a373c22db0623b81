"""What the files of a model folder say without loading it: where it lies, its shape, how many parameters it has.

The plan, validation and the chat read this. It never imports torch or transformers, and never reads a weight.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpo_ray.errors import ModelError

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
MAX_HEADER_BYTES = 100_000_000
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Architecture:
    """The sizes of a decoder that its memory follows from."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file, from its header."""

    file: Path
    dtype: str
    """As safetensors writes it: F32, F16, BF16, F8_E4M3, I8, …"""
    shape: tuple[int, ...]
    begin: int
    end: int
    """Its bytes in the file."""

    @classmethod
    def of(cls, file: Path, data_at: int, entry: dict[str, Any]) -> "StoredTensor":
        begin, end = map(int, entry["data_offsets"])
        return cls(file, str(entry["dtype"]), tuple(map(int, entry["shape"])), data_at + begin, data_at + end)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it stands. Raises ModelError."""
    return _json(folder / "config.json", "a model folder needs one")


def text_part(config: dict[str, Any]) -> dict[str, Any]:
    """What a config says of the language model: of one with vision or audio parts its own section."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def model_folder(path: str) -> Path | None:
    """The folder of a model, None for a hub repository (`owner/name` that is no folder). Raises ModelError."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{path}: a model is a folder, this is a file; name the folder that holds it")
    if HUB_NAME.fullmatch(path) is None:
        raise ModelError(
            f"{path}: no such model folder; give a folder with config.json, safetensors and a tokenizer, "
            "or a hub repository as owner/name"
        )
    return None


def downloaded_folder(path: str, revision: str | None = None) -> Path | None:
    """The folder of a model, or where the config of a hub repository lies on this machine; None where it was never downloaded.
    Raises ModelError."""
    if (folder := model_folder(path)) is not None:
        return folder
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def check_tokenizer_files(path: str) -> None:
    """Raises ModelError where a model's folder has nothing that a tokenizer could be read from; of a hub repository nothing is
    known."""
    folder = model_folder(path)
    patterns = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")
    if folder is not None and not any(any(folder.glob(pattern)) for pattern in patterns):
        raise ModelError(
            f"model.path {path}: no tokenizer files; copy tokenizer.json and tokenizer_config.json there, or save with "
            "tokenizer.save_pretrained"
        )


def architecture(folder: Path) -> Architecture | None:
    """The sizes in config.json; None where its names for them are not known. Raises ModelError."""
    config = text_part(read_config(folder))
    layers, hidden = _first(config, "num_hidden_layers", "n_layer"), _first(config, "hidden_size", "n_embd")
    heads, vocabulary = _first(config, "num_attention_heads", "n_head"), _first(config, "vocab_size")
    if layers is None or hidden is None or heads is None or vocabulary is None:
        return None
    return Architecture(
        layers=layers,
        hidden=hidden,
        intermediate=_first(config, "intermediate_size", "n_inner") or 4 * hidden,
        heads=heads,
        kv_heads=_first(config, "num_key_value_heads") or heads,
        head_dim=_first(config, "head_dim") or hidden // heads,
        vocabulary=vocabulary,
    )


def positions(folder: Path) -> int | None:
    """Tokens that a model was made for at most, from config.json; None where it does not say, or stretches them. Raises
    ModelError."""
    config = text_part(read_config(folder))
    stretched = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if isinstance(stretched, dict) and stretched.get("rope_type", stretched.get("type", "default")) != "default":
        return None
    return _first(config, "max_position_embeddings", "n_positions")


def parameters(folder: Path) -> int:
    """Number of parameters, from the headers of the folder's safetensors files. Raises ModelError."""
    return sum(math.prod(shape) for shape in tensor_shapes(folder).values())


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every tensor of the folder's safetensors files, from their headers. Raises ModelError."""
    return {name: tensor.shape for name, tensor in stored_tensors(folder).items()}


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the folder's safetensors files, and where it lies. Raises ModelError, also where the index names a tensor
    that its file lacks."""
    found = {name: tensor for file in weight_files(folder) for name, tensor in _header(file).items()}
    if lost := sorted(set(_weight_map(folder)) - set(found)):
        file = folder / _weight_map(folder)[lost[0]]
        raise ModelError(f"{file}: lacks {lost[0]}, which the index says is there; copy or write the model anew")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model: those of the index, or the single file. Raises ModelError."""
    if shards := _weight_map(folder):
        return [folder / name for name in sorted(set(shards.values()))]
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".safetensors", ".gguf"))
    if any(name.endswith(".gguf") for name in others):
        raise ModelError(
            f"{folder}: holds GGUF ({', '.join(others)}) and no safetensors; only model.path of `xpo-ray run` and `validate` "
            "reads it as it is: convert it with `python -m xpo_ray.gguf_conversion FILE FOLDER`"
        )
    raise ModelError(
        f"{folder}: no model.safetensors and no model.safetensors.index.json (found {', '.join(others) or 'no weights'}); "
        "save the model with save_pretrained, which writes safetensors"
    )


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor → file, of a model in several files; nothing where it has no index."""
    index = folder / INDEX
    if not index.exists():
        return {}
    shards = _json(index, "write the model anew").get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise ModelError(f"{index}: has no weight_map; write the model anew")
    return shards


def _header(file: Path) -> dict[str, StoredTensor]:
    """The header is its length (8 bytes, little-endian) and JSON: {name: {dtype, shape, data_offsets}}."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(MAX_HEADER_BYTES, file.stat().st_size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        named = {name: entry for name, entry in header.items() if name != "__metadata__"}
        tensors = {name: StoredTensor.of(file, 8 + length, entry) for name, entry in named.items()}
        wanted, there = max((t.end for t in tensors.values()), default=0), file.stat().st_size
        if wanted > there:
            raise ValueError(f"its tensors need {wanted} bytes, the file has {there}")
        return tensors
    except FileNotFoundError as error:
        raise ModelError(f"{file}: missing, though the index names it; copy or write the model anew") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: not a safetensors file, or cut short ({error}); write the model anew") from error


def _json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{file}: missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; {remedy}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{file}: expected a JSON object, got {type(value).__name__}; {remedy}")
    return value


def _first(config: dict[str, Any], *names: str) -> int | None:
    """The first of these entries that is a positive whole number."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return None
