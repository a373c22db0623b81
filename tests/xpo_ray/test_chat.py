"""Chat: templates, end tokens, and what a folder must have."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.tiny import CHAT_TEMPLATE, END, SYSTEM, tiny_tokenizer
from xpo_ray.chat import Chat
from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message
from xpo_ray.model_files import check_tokenizer_files

USER = Message(role="user", content="Why is the sky blue?")
TALK = [Message(role="system", content="Be brief."), USER]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "model"
    tiny_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer without a chat template."""
    path = tmp_path_factory.mktemp("chat") / "bare"
    tiny_tokenizer(chat=False).save_pretrained(path)
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A folder that a test may change."""
    return Path(shutil.copytree(folder, tmp_path / "model"))


def with_bos(template: str | None, *, adds_eos: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a BOS before what it encodes, as Llama's does, and perhaps an EOS behind it."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.add_special_tokens({"bos_token": "<|user|>"})
    single = "<|user|> $A <|end|>" if adds_eos else "<|user|> $A"
    tokens = [(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<|user|>", "<|end|>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=tokens)
    if template:
        tokenizer.chat_template = template
    return tokenizer


def test_a_prompt_is_the_rendered_template_with_the_generation_prompt(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    text = chat.tokenizer.decode(chat.prompt_ids(TALK))
    assert text == "<|system|>\nBe brief.<|end|>\n<|user|>\nWhy is the sky blue?<|end|>\n<|assistant|>\n"
    assert chat.prompt_ids(TALK) == chat.tokenizer.apply_chat_template(
        [dict(m) for m in TALK], add_generation_prompt=True, return_dict=False
    )


def test_a_string_prompt_goes_through_the_template_too(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    assert chat.prompt_ids([USER], conversational=False) == chat.prompt_ids([USER])


def test_a_template_that_writes_bos_does_not_get_a_second_one() -> None:
    said = "{{ messages[0]['content'] }}"
    chat = Chat(with_bos(None), name="m", template="{{ bos_token }}" + said)
    bos = chat.tokenizer.bos_token_id
    ids = chat.prompt_ids([USER])
    assert ids[0] == bos
    assert ids.count(bos) == 1
    twice = Chat(chat.tokenizer, name="m", template="{{ bos_token }}{{ bos_token }}" + said)
    assert twice.prompt_ids([USER]) == ids


def test_plain_text_has_the_tokenizers_own_bos_once_and_no_eos() -> None:
    tokenizer = with_bos(None, adds_eos=True)
    chat = Chat(tokenizer, name="m", template=None, joins_turns=True)
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer("hi").input_ids[-1] == eos, "this tokenizer would end the prompt"
    ids = chat.prompt_ids([Message(role="user", content="hi")])
    assert (ids[0], ids.count(bos), ids.count(eos)) == (bos, 1, 0)
    assert chat.prompt_ids([Message(role="user", content="<|user|>hi")]) == ids


def test_plain_joins_the_contents_by_blank_lines(bare: Path) -> None:
    chat = Chat.load(str(bare), None, "plain")
    assert chat.tokenizer.decode(chat.prompt_ids(TALK)) == "Be brief.\n\nWhy is the sky blue?"


def test_plain_sets_a_template_of_the_tokenizer_aside(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "plain")
    assert chat.tokenizer.decode(chat.prompt_ids([USER])) == USER["content"]


def test_without_a_template_a_string_prompt_is_plain_text_and_a_conversation_is_refused(bare: Path) -> None:
    chat = Chat.load(str(bare), None, "tokenizer")
    assert chat.tokenizer.decode(chat.prompt_ids([USER], conversational=False)) == USER["content"]
    with pytest.raises(ModelError, match=r"no chat template.*model\.chat_template to plain.*Jinja file"):
        chat.prompt_ids([USER])


def test_a_jinja_file_is_used_in_place_of_the_tokenizers_template(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:")
    chat = Chat.load(str(folder), None, str(file))
    assert chat.tokenizer.decode(chat.prompt_ids([USER])) == "user: Why is the sky blue?\nassistant:"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ raise_exception('only tools here') }}", "only tools here"),
        ("{{ messages[0]['content'] + 1 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_broken_template_is_refused_when_it_is_loaded(
    folder: Path, tmp_path: Path, template: str, words: str
) -> None:
    file = tmp_path / "chat.jinja"
    file.write_text(template)
    with pytest.raises(ModelError, match=r"chat template failed") as caught:
        Chat.load(str(folder), None, str(file))
    assert words in str(caught.value)


def test_a_missing_jinja_file_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.jinja.*cannot be read.*tokenizer, plain, or the path"):
        Chat.load(str(folder), None, "none.jinja")


def test_a_template_that_refuses_a_role_says_which_turns(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.jinja"
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    file.write_text(refuses + "{{ messages[0].content }}")
    chat = Chat.load(str(folder), None, str(file))
    with pytest.raises(ModelError, match=r"turns of system, user: TemplateError: no system"):
        chat.prompt_ids(TALK)


def test_a_response_is_its_text_and_one_eos(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    ids, ended = chat.response_ids([USER], "Blue light scatters.", 100)
    assert ended
    assert ids == [*chat.tokenizer("Blue light scatters.", add_special_tokens=False).input_ids, chat.eos_id]
    assert chat.response_ids([USER], f"Blue light scatters.{END}", 100) == (ids, True)


def test_special_tokens_spelled_in_a_response_do_not_end_it(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    ids, _ = chat.response_ids([USER], f"Write {END} to stop, then <|user|>.", 100)
    assert ids.count(chat.eos_id) == 1
    assert chat.decode(ids) == f"Write {END} to stop, then <|user|>."


def test_a_response_over_the_limit_is_cut_and_has_no_eos(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    whole, _ = chat.response_ids([USER], "Blue light scatters.", 100)
    n = len(whole)
    assert chat.response_ids([USER], "Blue light scatters.", n) == (whole, True)
    assert chat.response_ids([USER], "Blue light scatters.", n - 1) == (whole[: n - 1], False)
    assert chat.response_ids([USER], "Blue light scatters.", 2) == (whole[:2], False)


@pytest.mark.parametrize("text", ["héllo  wörld .\n", " x", "日本 🙂", "don't , stop"])
def test_decoding_gives_the_text_back_without_eos(folder: Path, text: str) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    assert chat.decode(chat.response_ids([USER], text, 100)[0]) == text
    assert chat.decode([]) == ""


@pytest.mark.parametrize(("value", "expected"), [(3, (1, 3)), ([1, 4, 3], (1, 3, 4)), (None, (1,))])
def test_end_tokens_of_the_generation_config_join_the_tokenizers(
    copy: Path, value: object, expected: tuple[int, ...]
) -> None:
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    chat = Chat.load(str(copy), None, "tokenizer")
    assert (chat.eos_id, chat.eos_ids) == (1, expected)


def test_a_templates_own_end_of_turn_ends_the_datasets_responses_and_draws(copy: Path) -> None:
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3]}))
    chat = Chat.load(str(copy), None, "tokenizer", SYSTEM)
    turn = chat.tokenizer.convert_tokens_to_ids(SYSTEM)
    assert (chat.eos_id, chat.eos_ids) == (turn, (1, 3, turn))
    ids, ended = chat.response_ids([USER], "Blue light scatters.", 100)
    assert ended
    assert ids == [*chat.tokenizer("Blue light scatters.", add_special_tokens=False).input_ids, turn]
    assert chat.response_ids([USER], f"Blue light scatters.{SYSTEM}", 100) == (ids, True)
    assert chat.response_ids([USER], f"Blue light scatters.{END}", 100) == (ids, True)
    assert chat.decode(ids) == chat.decode([*ids[:-1], 1]) == "Blue light scatters."


def test_an_end_of_turn_that_is_no_token_is_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"end_of_turn '<\|eot_id\|>' is no token.*leave it out.*'<\|end\|>'"):
        Chat.load(str(folder), None, "tokenizer", "<|eot_id|>")


def test_without_a_generation_config_the_tokenizers_end_token_stands_alone(folder: Path) -> None:
    chat = Chat.load(str(folder), None, "tokenizer")
    assert (chat.eos_ids, chat.pad_id) == ((1,), 0)


@pytest.mark.parametrize("text", ["{", '{"eos_token_id": "end"}'])
def test_a_broken_generation_config_is_refused(copy: Path, text: str) -> None:
    (copy / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        Chat.load(str(copy), None, "tokenizer")


def test_no_end_token_at_all_is_refused_and_pad_may_be_missing() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    assert Chat(tokenizer, name="m", template=CHAT_TEMPLATE).pad_id == tokenizer.eos_token_id
    tokenizer.eos_token = None
    endless = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(ModelError, match=r"no end-of-sequence token.*eos_token in tokenizer_config\.json"):
        Chat(tokenizer, name="m", template=endless)
    assert Chat(tokenizer, name="m", template=endless, more_eos_ids=(7,)).eos_ids == (7,)
    assert Chat(tokenizer, name="m", template=CHAT_TEMPLATE).eos_ids == (1,), "the template's own end of turn"


def test_a_folder_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"no tokenizer that can be loaded.*copy tokenizer\.json") as caught:
        Chat.load(str(tmp_path), None, "tokenizer")
    assert str(tmp_path) in str(caught.value)


def test_a_tokenizer_with_ids_beyond_the_embeddings_is_refused_with_both_numbers(copy: Path) -> None:
    size = len(tiny_tokenizer())
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "vocab_size": size}
    (copy / "config.json").write_text(json.dumps(sizes))
    assert Chat.load(str(copy), None, "tokenizer").eos_id < size
    (copy / "config.json").write_text(json.dumps(sizes | {"vocab_size": size - 1}))
    with pytest.raises(
        ModelError, match=rf"ids up to {size - 1}, the model has {size - 1} embeddings; copy the tokenizer"
    ):
        Chat.load(str(copy), None, "tokenizer")


def test_validation_sees_that_a_folder_has_no_tokenizer_without_loading_one(copy: Path) -> None:
    check_tokenizer_files(str(copy))
    check_tokenizer_files("owner/on-the-hub")
    for file in [*copy.glob("*token*"), *copy.glob("special*")]:
        file.unlink()
    with pytest.raises(
        ModelError, match=r"model: no tokenizer files; copy tokenizer\.json and tokenizer_config\.json there"
    ):
        check_tokenizer_files(str(copy))


def test_a_tokenizer_that_transformers_makes_up_from_a_class_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(ModelError, match=r"no vocabulary, its files are missing"):
        Chat.load(str(tmp_path), None, "tokenizer")


def test_a_folder_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        Chat.load(str(tmp_path / "none"), None, "tokenizer")
