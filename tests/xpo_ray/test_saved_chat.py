"""The chat in the folders of a run's models: what was trained with is what `from_pretrained` finds there."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from tests.tiny import ASSISTANT, CHAT_TEMPLATE, END, tiny_model_folder
from xpo_ray.adapters import save_merged
from xpo_ray.chat import Chat
from xpo_ray.judges.judgement import Message
from xpo_ray.saved_chat import save_chat
from xpo_ray.spec.data import LoraSpec, ModelSpec
from xpo_ray.spec.training import TrainingSpec
from xpo_ray.training import Trainer

MINE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|assistant|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if quiet %} shh{% endif %}{% endif %}"
)
TALK = [
    Message(role="user", content="Why?"),
    Message(role="assistant", content="So."),
    Message(role="user", content="Oh?"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model_folder(tmp_path_factory.mktemp("saved") / "base")


def model(base: Path, folder: Path, **settings: Any) -> ModelSpec:
    (folder / "mine.jinja").write_text(MINE)
    return ModelSpec(path=str(base), chat_template=str(folder / "mine.jinja"), **settings)


def prompt(folder: Path) -> list[int]:
    """As a server makes it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template([dict(m) for m in TALK], tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


@pytest.mark.parametrize("lora", [None, LoraSpec(rank=2)], ids=["whole", "adapter"])
def test_a_checkpoint_and_the_result_prompt_as_the_run_did(base: Path, tmp_path: Path, lora: LoraSpec | None) -> None:
    spec = model(base, tmp_path, lora=lora, template_arguments={"quiet": True})
    trainer = Trainer(TrainingSpec(), str(base), "float32", origin=spec)
    trainer.save(tmp_path / "checkpoint", {}, optimizer=False)
    folders = [tmp_path / "checkpoint" / "model"]
    if lora is not None:
        (tmp_path / "merged").mkdir()
        save_merged(folders[0], tmp_path / "merged")
        folders.append(tmp_path / "merged")
    chat = Chat.of(spec)
    for folder in folders:
        assert prompt(folder) == chat.prompt_ids(TALK)
        assert chat.tokenizer.decode(prompt(folder)).endswith("[assistant] shh")
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
        assert ends == [chat.eos_id, *(i for i in chat.eos_ids if i != chat.eos_id)]
        assert chat.tokenizer.convert_ids_to_tokens(ends) == [ASSISTANT, END]
    assert AutoTokenizer.from_pretrained(base).chat_template == CHAT_TEMPLATE, "the base stays as it is"


def test_plain_is_written_as_a_template_that_joins_by_blank_lines(base: Path, tmp_path: Path) -> None:
    chat = Chat.load(str(base), None, "plain")
    save_chat(chat, tmp_path)
    assert prompt(tmp_path) == chat.prompt_ids(TALK)


def test_a_model_without_a_template_stays_without(tmp_path: Path) -> None:
    bare = tiny_model_folder(tmp_path / "bare", chat=False)
    save_chat(Chat.load(str(bare), None, "tokenizer"), bare)
    assert AutoTokenizer.from_pretrained(bare).chat_template is None


def test_other_settings_of_the_generation_config_stay(base: Path, tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"_from_model_config": True, "temperature": 0.6, "do_sample": True, "eos_token_id": 1})
    )
    chat = Chat.of(model(base, tmp_path))
    save_chat(chat, tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert written == {"temperature": 0.6, "do_sample": True, "eos_token_id": [chat.eos_id, 1]}


def test_named_templates_stay_beside_the_one_that_was_used(base: Path, tmp_path: Path) -> None:
    chat = Chat.of(model(base, tmp_path))
    chat.tokenizer.chat_template = {"tool_use": CHAT_TEMPLATE}
    save_chat(chat, tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved").chat_template
    assert saved == {"default": MINE, "tool_use": CHAT_TEMPLATE}
