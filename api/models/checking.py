"""What the files of a model folder say: refused without safetensors, config or tokenizer. Reads headers, never a weight."""

import json
from dataclasses import dataclass
from pathlib import Path

from xpo_ray.api.datasets.roots import below_roots, links_below
from xpo_ray.api.problems import Refusal
from xpo_ray.api.settings import Settings
from xpo_ray.errors import ModelError
from xpo_ray.model_files import parameters, weight_files

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


@dataclass(frozen=True)
class ModelFacts:
    """A model folder that a run may name."""

    path: Path
    parameters: int
    architecture: str


def checked_folder(settings: Settings, path: str) -> ModelFacts:
    """The folder, which lies below the operator's roots with all its files. Raises Refusal."""
    folder = below_roots(settings.roots, path, "path")
    if not folder.is_dir():
        raise _invalid(
            f"path {path}: no such folder; a model is a folder with config.json, safetensors and a tokenizer"
        )
    links_below(settings.roots, folder, "path")
    try:
        architecture = _architecture(folder / "config.json")
        for file in weight_files(folder):
            below_roots(settings.roots, str(file), "path")
        count = parameters(folder)
    except ModelError as error:
        raise _invalid(str(error)) from error
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise _invalid(f"path {path}: no tokenizer (none of {', '.join(TOKENIZERS)}); save it with save_pretrained")
    return ModelFacts(folder, count, architecture)


def _architecture(config: Path) -> str:
    try:
        read = json.loads(config.read_text(encoding="utf-8"))
        named = read.get("architectures") or [read["model_type"]]
        return str(named[0])[:128]
    except (OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise ModelError(
            f"{config}: missing, or names no architecture ({type(error).__name__}); save the model with save_pretrained"
        ) from error


def _invalid(detail: str) -> Refusal:
    return Refusal(422, "model_invalid", detail, field="path")
