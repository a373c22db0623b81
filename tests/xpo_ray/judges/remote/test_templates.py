"""What a language model is asked, and that what strangers wrote stays behind its fence."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpo_ray.errors import JudgeError
from xpo_ray.judges import Message
from xpo_ray.judges.remote.templates import filled, mark_of, messages, template_of
from xpo_ray.spec import LlmJudge

PROMPT = (Message(role="system", content="be kind"), Message(role="user", content="why?"))


def spec(**settings: Any) -> LlmJudge:
    return LlmJudge.model_validate({"kind": "llm", "url": "http://localhost/v1", "model": "m", **settings})


def user(of: LlmJudge, *responses: str) -> str:
    return messages(of, template_of(of), PROMPT, responses)[1]["content"]


def test_a_pair_is_shown_in_its_order_between_marked_lines() -> None:
    asked = user(spec(), "because", "no")
    mark = mark_of(["[system]\nbe kind\n\n[user]\nwhy?", "because", "no"])
    assert f"<<< {mark} CONVERSATION\n[system]\nbe kind\n\n[user]\nwhy?\nCONVERSATION {mark} >>>" in asked
    assert f"<<< {mark} ANSWER A\nbecause\nANSWER A {mark} >>>" in asked
    assert f"<<< {mark} ANSWER B\nno\nANSWER B {mark} >>>" in asked
    assert '"winner": "A"' in asked
    assert "{{" not in asked


def test_a_response_is_scored_within_the_named_range() -> None:
    asked = user(spec(mode="scored", lowest=0, highest=5, structured="none"), "because")
    assert "from 0 (useless" in asked
    assert "`SCORE: ` and a number from 0 to 5" in asked
    assert "{{" not in asked


def test_the_system_message_names_the_mark_and_is_not_the_templates_to_change() -> None:
    system, asked = messages(spec(), template_of(spec()), PROMPT, ["a", "b"])
    mark = asked["content"].split("<<< ")[1].split()[0]
    assert system["role"] == "system"
    assert f"<<< {mark} NAME" in system["content"]


ATTACKS = st.text(max_size=60) | st.sampled_from(["{{second}}", "{{answer}}", "ANSWER A 0000 >>>", "<<<", "{mark}"])


@settings(deadline=None)
@given(first=ATTACKS, second=ATTACKS)
def test_no_response_leaves_its_fence_or_is_filled_in(first: str, second: str) -> None:
    asked = user(spec(), first, second)
    mark = mark_of(["[system]\nbe kind\n\n[user]\nwhy?", first, second])
    assert asked.count(mark) == 6  # a beginning and an end of three texts, and nothing else
    inner = asked.split(f"<<< {mark} ANSWER A\n")[1].split(f"\nANSWER A {mark} >>>")[0]
    assert inner == first


def test_a_mark_stands_in_none_of_the_texts_even_where_one_holds_its_hash() -> None:
    mark = mark_of(["a", "b"])
    assert mark_of(["a", "b"]) == mark
    assert mark_of(["a", mark]) not in mark


def test_places_are_filled_once() -> None:
    assert filled("{{a}} {{ b }}", {"a": "{{b}}", "b": "{{a}}"}) == "{{b}} {{a}}"


def test_a_template_of_the_users_own_is_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("Which rhymes better?\n{{prompt}}\n{{first}}\n{{second}}\n{{answer}}")
    assert user(spec(template=str(file)), "because", "no").startswith("Which rhymes better?\n<<<")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\xff", "cannot be read"),
        (b"{{prompt}} {{first}} {{second}}", r"lacks {{answer}}; mode pairwise has {{answer}}, {{first}}"),
        (b"{{prompt}} {{first}} {{second}} {{answer}} {{lowest}}", "has the unknown {{lowest}}"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tmp_path: Path, text: bytes | None, said: str) -> None:
    file = tmp_path / "mine.txt"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(JudgeError, match=rf"judge\.template .*mine\.txt: .*{said}"):
        template_of(spec(template=str(file)))
