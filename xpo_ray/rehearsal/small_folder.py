"""The folder of a small model as people bring them: weights, a tokenizer of some words, the real generation config."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from xpo_ray.model_files import downloaded_folder
from xpo_ray.spec.data import ModelSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OF_SMALL: dict[str, Any] = {"revision": None, "chat_template": "plain", "end_of_turn": None, "template_arguments": {}}
"""What a spec says of the model in such a folder, beside what it says of the real one; the real chat is tried elsewhere."""
WORDS = ("<unk>", "</s>", "a", "b", "c")
"""Fewer than any vocabulary has."""


def write_small(own: "PreTrainedModel", model: ModelSpec, folder: Path) -> None:
    """Write it; `model` is the real one."""
    own.generation_config = type(own.generation_config)()
    own.save_pretrained(folder)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token=WORDS[0], eos_token=WORDS[1])
    tokenizer.save_pretrained(folder)
    real = downloaded_folder(model.path, model.revision)
    if real is not None and (given := real / "generation_config.json").is_file():
        settings = json.loads(given.read_text(encoding="utf-8"))
        kept = {name: value for name, value in settings.items() if not name.endswith("token_id")}
        (folder / "generation_config.json").write_text(json.dumps(kept))
