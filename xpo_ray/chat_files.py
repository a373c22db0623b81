"""The files that a chat is made of: a model's tokenizer, its chat template, and the end tokens of its generation config.

Chat loads them here, from a folder or a hub repository; what is missing or does not fit is refused with the remedy.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from xpo_ray.errors import ModelError
from xpo_ray.model_files import architecture, model_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def own_template(tokenizer: "PreTrainedTokenizerBase", path: str) -> str | None:
    """The template that comes with a tokenizer; of several the one named default. Raises ModelError."""
    templates = tokenizer.chat_template
    if not isinstance(templates, dict) or "default" in templates:
        return tokenizer.get_chat_template() if templates else None
    names = ", ".join(sorted(templates))
    place = Path(path) / "additional_chat_templates" / f"{min(templates)}.jinja"
    remedy = str(place) if place.exists() else "a Jinja file with its text"
    raise ModelError(
        f"{path}: its tokenizer has the chat templates {names}, and none named default; choose one: set model.chat_template to "
        f"the path of its Jinja file, such as {remedy}, or to plain"
    )


def load_tokenizer(path: str, revision: str | None) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    folder = model_folder(path)
    place = (
        f"{path}: no tokenizer that can be loaded" if folder else f"{path}: neither a folder here nor a hub repository"
    )
    remedy = "copy tokenizer.json and tokenizer_config.json there, or save with tokenizer.save_pretrained"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            path, revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ModelError(f"{place} ({_first_line(error)}); {remedy if folder else 'check name and network'}") from error
    if set(tokenizer.get_vocab().values()) <= set(
        tokenizer.all_special_ids
    ):  # what is made up where there are no files
        raise ModelError(f"{path}: the tokenizer has no vocabulary, its files are missing; {remedy}")
    if folder is not None and (folder / "config.json").exists():
        _check_vocabulary(path, folder, max(tokenizer.get_vocab().values()))
    return tokenizer


def _check_vocabulary(path: str, folder: Path, highest: int) -> None:
    """A token beyond the embeddings would end the run where a text first holds it."""
    sizes = architecture(folder)
    if sizes is not None and highest >= sizes.vocabulary:
        raise ModelError(
            f"{path}: its tokenizer has ids up to {highest}, the model has {sizes.vocabulary} embeddings; copy the tokenizer "
            "that the model was trained with there, or give the model more embeddings (resize_token_embeddings)"
        )


def template_file(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"model.chat_template {str(file)!r}: cannot be read ({error}); give tokenizer, plain, or the path of a Jinja file"
        ) from error


def generation_eos_ids(path: str, revision: str | None) -> tuple[int, ...]:
    """eos_token_id of generation_config.json, which is a number, a list, or missing."""
    folder = model_folder(path)
    value = _local_eos(folder / "generation_config.json") if folder else _hub_eos(path, revision)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(i, int) for i in ids):
        raise ModelError(f"{path}: eos_token_id in generation_config.json is {value!r}; give token ids")
    return tuple(ids)


def _local_eos(file: Path) -> object:
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; mend or remove it") from error
    return config.get("eos_token_id") if isinstance(config, dict) else None


def _hub_eos(path: str, revision: str | None) -> object:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:  # a repository without that file
        return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
