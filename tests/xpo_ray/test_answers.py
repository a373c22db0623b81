"""A dataset's answers as templates of the field write them, each in a template of its own with that trait."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.tiny import TURNS, tiny_tokenizer
from xpo_ray.chat import Chat
from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message

ASKED = [Message(role="user", content="Why is the sky blue?")]
SYSTEM = [Message(role="system", content="Be brief."), *ASKED]
TALK = [*ASKED, Message(role="assistant", content="Air."), Message(role="user", content="And at night?")]
ANSWER = "Because air scatters blue light."

TURN = "{% for m in messages %}{{ '<sot>' + m['role'] + '\n' + m['content'] + '<eot>\n' }}{% endfor %}"
PROMPT = "{% if add_generation_prompt %}{{ '<sot>assistant\n' }}{% endif %}"
THINKS = "{% if add_generation_prompt %}{{ '<sot>assistant\n<think>\n' }}{% endif %}"


def turns(assistant: str, prompt: str) -> str:
    """A template whose user turns are ChatML's, and whose assistant turns and generation prompt are those given."""
    return (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ "
        + assistant
        + " }}{% else %}{{ '<sot>' + m['role'] + '\n' + m['content'] + '<eot>\n' }}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '"
        + prompt
        + "' }}{% endif %}"
    )


SPOKEN = "m['content'].split('</think>')[-1]"
TEMPLATES = {
    "ChatML": (TURN + PROMPT, "{}<eot>"),
    "Llama 3, which trims contents": (
        turns("'<sot>assistant\n' + m['content'] | trim + '<eot>'", "<sot>assistant\n"),
        "{}<eot>",
    ),
    "Qwen3, which writes an empty thought": (
        turns("'<sot>assistant\n<think>\n\n</think>\n\n' + " + SPOKEN + " + '<eot>\n'", "<sot>assistant\n"),
        "<think>\n\n</think>\n\n{}<eot>",
    ),
    "Qwen3.5, which opens the thought in the prompt": (
        turns("'<sot>assistant\n<think>\n\n</think>\n\n' + " + SPOKEN + " + '<eot>\n'", "<sot>assistant\n<think>\n"),
        "\n</think>\n\n{}<eot>",
    ),
    "one that closes the thought in the prompt and leaves it out of history": (
        turns("'<sot>assistant\n' + m['content'] + '<eot>\n'", "<sot>assistant\n<think>\n\n</think>\n\n"),
        "{}<eot>",
    ),
    "Phi-3, which ends a conversation with another token": (
        TURN + "{% if add_generation_prompt %}{{ '<sot>assistant\n' }}{% else %}{{ '<end>' }}{% endif %}",
        "{}<eot>",
    ),
    "Command R7B, which closes the answer before its turn": (
        turns("'<sot>assistant<open>' + m['content'] + '<close><end>'", "<sot>assistant<open>"),
        "{}<close><end>",
    ),
    "gpt-oss, whose answer names its channel": (
        turns("'<sot>assistant<open>final<close>' + m['content'] + '<eot>'", "<sot>assistant"),
        "<open>final<close>{}<eot>",
    ),
    "GLM-4, where the next turn ends an answer": (
        "{% for m in messages %}{{ ('<end>' if m['role'] == 'user' else '<sot>') + '\n' + m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<sot>\n' }}{% endif %}",
        "{}<end>",
    ),
    "Llama 2, which writes a space on both sides": (
        "{% for m in messages %}{{ '[INST] ' + m['content'] + ' [/INST]' if m['role'] != 'assistant' else "
        "' ' + m['content'] + ' <end>' }}{% endfor %}",
        " {} <end>",
    ),
    "SmolLM3, with blocks for assistant masks": (
        "{% for m in messages %}{{ '<sot>' + m['role'] + '\n' }}{% generation %}{{ m['content'] + '<eot>\n' }}"
        "{% endgeneration %}{% endfor %}" + PROMPT,
        "{}<eot>",
    ),
    "Gemma, which names the assistant otherwise in its history": (
        TURN + "{% if add_generation_prompt %}{{ '<sot>model\n' }}{% endif %}",
        "{}<eot>",
    ),
    "one without a token at the end": (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
        "{}<end>",
    ),
    "a multimodal one, which reads lists of parts": (
        "{% for m in messages %}{{ '<sot>' + m['role'] + '\n' }}{% for p in m['content'] %}{% if p['type'] == 'text' %}"
        "{{ p['text'] }}{% endif %}{% endfor %}{{ '<eot>\n' }}{% endfor %}" + PROMPT,
        "{}<eot>",
    ),
}


def chat(template: str, **settings: object) -> Chat:
    """With <end> as the tokenizer's EOS; <eot> is declared nowhere."""
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.add_tokens(["<sot>", "<eot>", "<open>", "<close>", "<end>"], special_tokens=True)
    tokenizer.eos_token = "<end>"
    return Chat(tokenizer, name="m", template=template, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("messages", [ASKED, SYSTEM, TALK], ids=["one turn", "with system", "several turns"])
@pytest.mark.parametrize(("template", "expected"), TEMPLATES.values(), ids=TEMPLATES.keys())
def test_an_answer_is_what_the_template_writes_behind_the_prompt(
    template: str, expected: str, messages: list[Message]
) -> None:
    made = chat(template)
    ids, ended = made.response_ids(messages, ANSWER, 100)
    assert ended
    assert made.tokenizer.decode(ids) == expected.format(ANSWER)
    assert ids[-1] in made.eos_ids
    assert set(made.tokenizer.convert_tokens_to_ids(["<end>"])) <= set(made.eos_ids)


def test_white_space_around_an_answer_is_what_the_template_leaves_of_it() -> None:
    trims = chat(TEMPLATES["Llama 3, which trims contents"][0])
    assert trims.response_ids(ASKED, f" {ANSWER}\n", 100) == trims.response_ids(ASKED, ANSWER, 100)
    keeps = chat(TURN + PROMPT)
    assert keeps.tokenizer.decode(keeps.response_ids(ASKED, f" {ANSWER}\n", 100)[0]) == f" {ANSWER}\n<eot>"


def test_an_answer_with_a_thought_goes_on_with_the_thought_that_the_prompt_opens() -> None:
    thought = f"<think>\nIt is air.\n</think>\n\n{ANSWER}"
    drops = chat(turns("'<sot>assistant\n' + " + SPOKEN + " + '<eot>\n'", "<sot>assistant\n<think>\n"))
    ids, _ = drops.response_ids(ASKED, thought, 100)
    assert drops.tokenizer.decode(ids) == f"It is air.\n</think>\n\n{ANSWER}<eot>"


def test_an_answer_behind_an_open_thought_that_the_template_never_closes_is_refused_by_the_token() -> None:
    drops = chat(turns("'<sot>assistant\n' + " + SPOKEN + " + '<eot>\n'", "<sot>assistant\n<think>\n"))
    place = len(drops.prompt_ids(ASKED)) - len(drops.tokenizer("<think>\n").input_ids) + 1
    with pytest.raises(
        ModelError,
        match=rf"at token {place} the prompt has '<' \(id \d+\), the conversation [^:]*; the prompt opens a thought",
    ):
        drops.response_ids(ASKED, ANSWER, 100)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (TURN, "writes '<sot>assistant' before an answer, but not at the end of a prompt"),
        (
            turns("'<sot>assistant\n' + m['content'] | replace('air', 'dust') + '<eot>'", "<sot>assistant\n"),
            r"changes the answer .*: at token 4 the dataset has ' air' \(id \d+\)",
        ),
        (turns("'<sot>assistant\n' + m['content'][:25] + '<eot>'", "<sot>assistant\n"), "changes the answer"),
        (turns("'<sot>assistant\n<eot>'", "<sot>assistant\n"), "does not write an assistant's answer"),
        (turns("raise_exception('users only')", "<sot>assistant\n"), "does not write an assistant's answer"),
    ],
    ids=["no generation prompt", "changed", "cut", "left out", "refused"],
)
def test_an_answer_that_the_template_does_not_write_as_it_is_is_refused(template: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        chat(template).response_ids(ASKED, ANSWER, 100)


def test_the_end_of_turn_is_found_in_the_template_and_may_be_overridden() -> None:
    found, asked = chat(TURN + PROMPT), chat(TURN + PROMPT, end_of_turn="<end>")
    eot, end = found.tokenizer.convert_tokens_to_ids(["<eot>", "<end>"])
    assert (found.eos_id, found.eos_ids) == (eot, tuple(sorted((eot, end))))
    assert (asked.eos_id, asked.eos_ids) == (end, tuple(sorted((eot, end))))
    assert asked.tokenizer.decode(asked.response_ids(ASKED, ANSWER, 100)[0]) == f"{ANSWER}<end>"


@pytest.mark.parametrize("spelled", ["<eot>", "<end>", "<eot>\n<end>", "<eot>\n"])
def test_end_tokens_that_are_spelled_behind_an_answer_are_taken_off(spelled: str) -> None:
    made = chat(TURN + PROMPT)
    ids, _ = made.response_ids(ASKED, ANSWER + spelled, 100)
    assert ids == made.response_ids(ASKED, ANSWER, 100)[0]
    assert made.decode(ids) == ANSWER


def test_special_tokens_that_an_answer_spells_stay_text_between_those_of_the_template() -> None:
    made = chat(TEMPLATES["gpt-oss, whose answer names its channel"][0])
    ids, _ = made.response_ids(ASKED, "Write <open> or <eot> here.", 100)
    specials = made.tokenizer.convert_tokens_to_ids(["<open>", "<close>", "<eot>"])
    assert [i for i in ids if i in specials] == specials
    assert made.tokenizer.decode(ids) == "<open>final<close>Write <open> or <eot> here.<eot>"


def spaced(template: str | None) -> Chat:
    """A tokenizer of the SentencePiece kind, which puts a space before a text that begins."""
    raw = Tokenizer(models.BPE(byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    specials = ["<s>", "</s>", "<sot>"]
    alphabet = sorted({*"".join(q + a for q, a in TURNS), *ANSWER, "\n", "[", "]", "/", *"INST", ":", "▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator((text for turn in TURNS for text in turn), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    return Chat(tokenizer, name="m", template=template, joins_turns=template is None)


@pytest.mark.parametrize(
    ("prompt", "lead"), [("\n", ""), ("[/INST]", " "), ("[/INST]", "")], ids=["line", "space", "nothing"]
)
def test_a_tokenizer_that_begins_texts_with_a_space_gives_the_ids_of_the_whole_conversation(
    prompt: str, lead: str
) -> None:
    template = (
        "<s>{% for m in messages %}{% if m['role'] == 'user' %}{{ '<sot>' + m['content'] + '"
        + prompt
        + "' }}{% else %}{{ '"
        + lead
        + "' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
    )
    made = spaced(template)
    begin = made.prompt_ids(ASKED)
    ids, _ = made.response_ids(ASKED, ANSWER, 100)
    whole = made.tokenizer.apply_chat_template(
        [dict(m) for m in [*ASKED, Message(role="assistant", content=ANSWER)]],
        chat_template=template,
        return_dict=False,
    )
    assert whole == [*begin, *ids]


def test_without_a_template_an_answer_goes_on_where_the_prompt_ends() -> None:
    made = spaced(None)
    ids, _ = made.response_ids([Message(role="user", content="It is:\n")], "blue", 100)
    assert made.tokenizer.convert_ids_to_tokens(ids)[0][0] != "▁"
