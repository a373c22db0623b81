"""The chat of a run, written into the folders of its models: what it was trained with is what servers prompt it with.

    chat_template.jinja       the template of the run, its arguments as defaults      generation_config.json   what ends a turn

Trainers call this behind what the checkpoint itself writes; the result is one of those folders.
"""

import json
from pathlib import Path
from typing import Any

from xpo_ray.chat import Chat
from xpo_ray.errors import ModelError
from xpo_ray.model_files import model_folder

GENERATION = "generation_config.json"
JOINED = (
    "{% for message in messages %}{{ message['content'] }}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
"""What model.chat_template plain does."""


def save_chat(chat: Chat, folder: Path) -> None:
    """Write tokenizer, template and end tokens into the folder of a model or an adapter."""
    tokenizer = chat.tokenizer
    own = tokenizer.chat_template
    text = _template(chat)
    try:
        if text is not None:
            tokenizer.chat_template = {**own, "default": text} if isinstance(own, dict) else text
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = own
    settings = _read(folder / GENERATION) or _base_settings(chat.name)
    _write(folder / GENERATION, settings, _ends(chat))


def copy_ends(source: Path, target: Path) -> None:
    """What ends a turn, from an adapter's folder into that of the model it is merged into."""
    if (ends := (_read(source / GENERATION) or {}).get("eos_token_id")) is not None:
        _write(target / GENERATION, _read(target / GENERATION) or {}, ends)


def _template(chat: Chat) -> str | None:
    """The template's text; None where the model has none and the run made none up."""
    if chat.template is not None:
        return chat.template.with_defaults()
    if not chat.joins_turns:
        return None
    bos = chat.tokenizer.bos_token_id
    begins = bos is not None and chat.tokenizer("a", verbose=False)["input_ids"][:1] == [bos]
    return ("{{ bos_token }}" if begins else "") + JOINED


def _ends(chat: Chat) -> int | list[int]:
    """The end of turn first: whoever takes one takes that."""
    others = [i for i in chat.eos_ids if i != chat.eos_id]
    return [chat.eos_id, *others] if others else chat.eos_id


def _base_settings(path: str) -> dict[str, Any]:
    """The generation settings of the base, for a folder that has an adapter alone."""
    folder = model_folder(path)
    return {} if folder is None else _read(folder / GENERATION) or {}


def _read(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {error}; mend or remove it") from error
    return settings if isinstance(settings, dict) else None


def _write(file: Path, settings: dict[str, Any], ends: int | list[int]) -> None:
    """Without the mark of settings that were made from a config.json, which `generate` would make again from there."""
    kept = {name: value for name, value in settings.items() if name != "_from_model_config"}
    file.write_text(json.dumps({**kept, "eos_token_id": ends}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
