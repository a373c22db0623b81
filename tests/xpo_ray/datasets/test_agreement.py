"""A prompt's text beside the conversation: the forms that say the same, and those that do not."""

import pytest

from xpo_ray.datasets.agreement import agrees
from xpo_ray.datasets.rows import reader
from xpo_ray.errors import DatasetError
from xpo_ray.judges.judgement import Message
from xpo_ray.spec import ColumnsSpec

TURNS = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="User stories: why <b>?"),
    Message(role="assistant", content="So."),
    Message(role="user", content="And then?"),
)


@pytest.mark.parametrize(
    "text",
    [
        "User stories: why <b>?",
        " And\n then? ",
        "Be brief.\n\nUser stories: why <b>?\n\nSo.\n\nAnd then?",
        "User stories: why <b>?\nSo.\nAnd then?",
        "User stories: why <b>? And then?",
        "\n\nHuman: User stories: why <b>?\n\nAssistant: So.\n\nHuman: And then?\n\nAssistant:",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nUser stories: why <b>?<|im_end|>\n<|im_start|>assistant\n"
        "So.<|im_end|>\n<|im_start|>user\nAnd then?<|im_end|>\n<|im_start|>assistant\n",
        "<s>[INST] User stories: why <b>? [/INST] So.</s>[INST] And then? [/INST]",
    ],
)
def test_a_question_the_joined_turns_and_a_rendered_prompt_say_the_same(text: str) -> None:
    assert agrees(text, TURNS)


@pytest.mark.parametrize(
    "text",
    ["Why?", "You are given a task. And then?", "And then? In French.", "And then? User stories: why <b>?", "And"],
)
def test_a_text_that_says_more_less_or_another_thing_does_not(text: str) -> None:
    assert not agrees(text, TURNS)


def test_a_long_text_of_marks_is_looked_at_in_no_time() -> None:
    assert not agrees("<user>" * 5000 + "x", TURNS)


def test_a_row_whose_prompt_says_another_thing_is_refused_with_both_texts() -> None:
    turns = [{"role": "user", "content": "Why?"}]
    row = {
        "prompt": "In French: why?",
        "chosen": [*turns, {"role": "assistant", "content": "a"}],
        "rejected": [*turns, {"role": "assistant", "content": "b"}],
    }
    read = reader(row, ColumnsSpec(), "a", needs_pairs=True, algorithm="dpo")
    with pytest.raises(
        DatasetError, match=r"column 'prompt': differs from the turns.*'In French: why\?' against 'Why\?'"
    ):
        read.example(row, "a, row 0")
    assert read.example({**row, "prompt": "Why?"}, "a, row 0").prompt[0]["content"] == "Why?"
