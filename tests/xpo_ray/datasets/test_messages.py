"""Messages and texts: every form that is read, and what is refused with row and column."""

import datetime
from typing import Any

import pytest

from xpo_ray.datasets import Example
from xpo_ray.datasets.rows import reader
from xpo_ray.errors import DatasetError
from xpo_ray.spec import ColumnsSpec

USER = {"role": "user", "content": "Why?"}
PAIR = {"chosen": "Because.", "rejected": "No."}


def example(**row: Any) -> Example:
    return reader(row, ColumnsSpec(), "a", needs_pairs=True, algorithm="dpo").example(row, "a, row 0")


def said(**row: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        example(**row)
    return str(caught.value)


@pytest.mark.parametrize(
    "prompt",
    [
        [USER],
        USER,
        [{"from": "human", "value": "Why?"}],
        [{"from": "user", "value": "Why?", "weight": 1}],
        [{"role": "user", "content": [{"type": "text", "text": "Wh"}, {"type": "text", "text": "y?", "image": None}]}],
        {"role": ["user"], "content": ["Why?"]},
        {"from": ["human"], "value": ["Why?"]},
        [{"role": "user", "content": "Why?", "from": None, "value": None, "tool_calls": None}],
    ],
)
def test_messages_of_every_form_are_one_prompt(prompt: Any) -> None:
    read = example(prompt=prompt, **PAIR)
    assert (list(read.prompt), read.conversational, read.chosen) == ([USER], True, "Because.")


def test_sharegpt_pairs_are_read_with_answers_as_messages_and_a_system_turn() -> None:
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Hi"}]
    turns += [{"from": "gpt", "value": "Hello."}, {"from": "human", "value": "Why?"}]
    for wrap in (lambda m: m, lambda m: [m]):
        answers = {k: wrap({"from": "gpt", "value": v}) for k, v in PAIR.items()}
        read = example(conversations=turns, **answers)
        assert [m["role"] for m in read.prompt] == ["system", "user", "assistant", "user"]
        assert (read.chosen, read.rejected) == ("Because.", "No.")
    assert "the prompt ends with a turn of the assistant" in said(conversations=turns[:3], **PAIR)


def test_a_prompt_column_is_read_before_conversations() -> None:
    read = example(prompt="How?", conversations=[{"from": "human", "value": "Why?"}], **PAIR)
    assert read.prompt[0]["content"] == "How?"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "part 0 of message 0 is {'type': 'image'}"),
        ({"prompt": [{"from": "tool", "value": "x"}]}, "roles are user, assistant, system (or human and gpt)"),
        ({"prompt": [{"role": "user", "prompt": "x"}]}, "a message has the texts 'role' and 'content'"),
        ({"prompt": {"role": ["user"], "content": []}}, "message 0 is {'role': ['user'], 'content': []}"),
        ({"prompt": "Why?", "chosen": datetime.datetime(2024, 1, 1)}, "got the date 2024-01-01"),
        ({"prompt": "Why?", "chosen": 42}, "column 'chosen': expected the text of an answer, got 42"),
        ({"prompt": "Why?", "chosen": b"Because."}, "expected the text of an answer, got b'Because.'"),
        ({"prompt": "Why?", "chosen": {"text": "a"}}, "message 0 is {'text': 'a'}"),
    ],
)
def test_what_is_no_message_or_text_is_refused(row: dict[str, Any], words: str) -> None:
    message = said(**(PAIR | row))
    assert message.startswith("a, row 0, column ")
    assert words in message


@pytest.mark.parametrize(
    "text",
    [
        "[{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'Because.'}]",
        '[{"content": "Why?", "role": "user"}]',
        "[{'content': 'Why?', 'role': 'user'}\n {'content': 'Because.', 'role': 'assistant'}]",
        "{'role': 'assistant', 'content': 'Because.'}",
        "array([{'from': 'human', 'value': 'Why?'}], dtype=object)",
    ],
)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_messages_written_as_text_are_refused(text: str, column: str) -> None:
    message = said(**({"prompt": "Why?"} | PAIR | {column: text}))
    assert f"column '{column}': messages written as text" in message
    assert "jsonl or parquet" in message


def test_an_answer_may_be_json_of_another_kind() -> None:
    for text in ("['a', 'b']", '{"role": "admin"}', '[{"name": "x", "content": "y"}]', "{'from': 3}"):
        assert example(prompt="Why?", chosen=text, rejected="No.").chosen == text


def test_a_system_column_is_the_first_turn_whatever_the_form_of_the_prompt() -> None:
    system = {"role": "system", "content": "Be brief."}
    answers = {k: [USER, {"role": "assistant", "content": v}] for k, v in PAIR.items()}
    for row in ({"prompt": "Why?", **PAIR}, {"prompt": [USER], **PAIR}, answers, {"prompt": [system, USER], **PAIR}):
        read = example(system="Be brief.", **row)
        assert (list(read.prompt), read.conversational) == ([system, USER], True)
    assert example(system="", prompt="Why?", **PAIR) == example(prompt="Why?", **PAIR)
    assert example(system=None, prompt="Why?", **PAIR).conversational is False


def test_a_system_column_that_disagrees_or_is_no_text_is_refused() -> None:
    turns = [{"role": "system", "content": "Be long."}, USER]
    assert "column 'system': differs from the prompt's system turn: 'Be brief.' against 'Be long.'" in said(
        system="Be brief.", prompt=turns, **PAIR
    )
    assert "column 'system': expected a text, got 3" in said(system=3, prompt="Why?", **PAIR)
