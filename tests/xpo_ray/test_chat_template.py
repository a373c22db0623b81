"""Chat templates: what they hold of a prompt, their arguments, and the defaults that a result's template has."""

import html
import json

import pytest

from tests.tiny import CHAT_TEMPLATE, tiny_tokenizer
from xpo_ray.chat_template import ChatTemplate, holds
from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message

USER = Message(role="user", content="Why is the sky\nblue? ")
SYSTEM = Message(role="system", content="Be brief. /no_think")
THINKING = "{% if enable_thinking is defined and enable_thinking is false %}quiet{% else %}loud{% endif %}"


def template(text: str, **arguments: object) -> ChatTemplate:
    return ChatTemplate(tiny_tokenizer(), "m", text, arguments)


@pytest.mark.parametrize(
    "text",
    [
        CHAT_TEMPLATE,
        "{{ messages[-1]['content'] | trim }}",
        "{{ messages[-1]['content'] | upper }}",
        "{{ messages[-1]['content'].split() | join(' ') }}",
        "{{ messages[-1]['content'] | tojson }}",
        "{{ messages[-1]['content'] | replace('sky', 'heaven') }}",
        "{{ messages[-1]['content'][:5] }}",
    ],
)
def test_a_template_may_trim_and_transform_a_text(text: str) -> None:
    one = template(text)
    one.check_holds([USER], one.prompt([USER]))


@pytest.mark.parametrize(
    "text",
    [
        "{% for m in messages %}{{ m['from'] }}: {{ m['value'] }}\n{% endfor %}",
        "{% for m in messages %}{% if m['role'] == 'human' %}{{ m['content'] }}{% endif %}{% endfor %}gpt:",
        "{{ messages[0]['content'] }}",
    ],
    ids=["other keys", "other roles", "the first turn alone"],
)
def test_a_prompt_that_lacks_the_users_text_is_refused_with_the_turn(text: str) -> None:
    talk = [Message(role="user", content="Hello."), Message(role="assistant", content="Yes?"), USER]
    one = template(text)
    with pytest.raises(ModelError, match=r"leaves out the text of turn \d, of the user: .* is not in the prompt"):
        one.check_holds(talk, one.prompt(talk))


def test_a_system_text_that_is_left_out_is_refused_and_flags_may_be_taken_out_of_it() -> None:
    drops = template("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}")
    with pytest.raises(ModelError, match=r"turn 1, of the system"):
        drops.check_holds([SYSTEM, USER], drops.prompt([SYSTEM, USER]))
    flags = template("{% for m in messages %}{{ m['content'].replace('/no_think', '') }}{% endfor %}")
    flags.check_holds([SYSTEM, USER], flags.prompt([SYSTEM, USER]))


def test_thoughts_of_earlier_answers_may_be_left_out() -> None:
    talk = [USER, Message(role="assistant", content="<think>hm</think>Air."), USER]
    one = template(CHAT_TEMPLATE.replace("message['content']", "message['content'].split('</think>')[-1]"))
    one.check_holds(talk, one.prompt(talk))


def test_holds_compares_without_white_space_and_case_and_asks_for_other_texts_else() -> None:
    assert holds("<p>why?</p>", " Why? ", "never as it stands: {}".format)
    assert holds("&lt;b&gt;", "<b>", html.escape)
    assert not holds("nothing", "Why?", "nothing".format)


def test_arguments_reach_the_template_and_stand_in_its_text_as_defaults() -> None:
    assert template(THINKING).prompt([USER]) == "loud" == template(THINKING, enable_thinking=True).prompt([USER])
    quiet = template(THINKING, enable_thinking=False)
    assert quiet.prompt([USER]) == "quiet"
    assert template(quiet.with_defaults()).prompt([USER]) == "quiet"
    assert template(quiet.with_defaults(), enable_thinking=True).prompt([USER]) == "loud"


def test_defaults_are_written_once_and_leave_the_text_as_it_was() -> None:
    text = "\n  {{ messages[0]['content'] }}\n"
    once = template(text, a=1).with_defaults()
    assert template(once).prompt([USER]) == template(text).prompt([USER])
    assert template(once, a=1).with_defaults() == once
    assert template(text).with_defaults() == text


@pytest.mark.parametrize("value", [None, True, 3, -0.5, 'it\'s "so" %} {{ ü', [1, "a", None], {"k": [False]}])
def test_any_json_value_is_a_default(value: object) -> None:
    saved = template("{{ given | tojson }}", given=value).with_defaults()
    assert json.loads(template(saved).prompt([USER])) == value


def test_arguments_that_the_template_never_reads_are_told() -> None:
    blocks = "{% for m in messages %}{%- generation -%}{{ seen }}{%- endgeneration -%}{% break %}{% endfor %}"
    assert template(blocks + THINKING, enable_thinking=False, seen=1, enable_thinkin=True).unread_arguments() == [
        "enable_thinkin"
    ]


def test_all_prompts_of_a_run_have_the_same_date() -> None:
    dated = template("{{ strftime_now('%H:%M:%S.%f') }}{{ messages[0]['content'] }}")
    assert len({dated.prompt([USER]) for _ in range(50)}) == 1
