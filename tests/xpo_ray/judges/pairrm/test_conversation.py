import pytest

from xpo_ray.judges import Message
from xpo_ray.judges.pairrm.conversation import INSTRUCTION, Conversation


def said(*turns: tuple[str, str]) -> Conversation:
    return Conversation.of([Message(role=role, content=text) for role, text in turns])


def test_one_turn_of_the_user_is_the_source_and_a_response_is_a_candidate_as_it_stands() -> None:
    made = said(("user", "hello!"))
    assert (made.source, made.candidate("hi!")) == ("hello!", "hi!")


def test_a_system_message_stands_before_the_prompt_on_a_line_of_its_own() -> None:
    made = said(("system", "Be kind."), ("user", "hello!"))
    assert (made.source, made.candidate("hi!")) == ("Be kind.\nhello!", "hi!")


def test_several_turns_are_filled_in_as_in_compare_conversations() -> None:
    made = said(("user", "hello"), ("assistant", "hi"), ("user", "who?"))
    assert made.source == f"{INSTRUCTION}USER: hello\nAssistant: <Response 1>\nUSER: who?\nAssistant: <Response 2>"
    assert made.candidate("Tom.") == "<Response 1>: hi\n<Response 2>: Tom."
    with_system = said(("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c"))
    assert with_system.source.startswith(f"Be kind.\n{INSTRUCTION}USER: a\n")


def test_turns_of_one_speaker_are_one_and_an_assistant_that_begins_answers_nothing() -> None:
    made = said(("user", "a"), ("user", "b"), ("assistant", "c"), ("system", "s"), ("assistant", "d"), ("user", "e"))
    assert [(x.user, x.assistant) for x in made.history] == [("a\nb", "c\nd")]
    assert (made.question, made.system) == ("e", "s")
    begun = said(("assistant", "Welcome."), ("user", "a"))
    assert [(x.user, x.assistant) for x in begun.history] == [("", "Welcome.")]


def test_the_oldest_exchange_goes_first_and_the_question_stays() -> None:
    made = said(("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5"))
    assert made.without_oldest() == said(("user", "3"), ("assistant", "4"), ("user", "5"))
    assert made.without_oldest().without_oldest() == said(("user", "5"))


@pytest.mark.parametrize(("turns", "role"), [([("user", "a"), ("assistant", "b")], "assistant"), ([], "nobody")])
def test_a_prompt_that_does_not_end_with_the_user_is_refused(turns: list[tuple[str, str]], role: str) -> None:
    with pytest.raises(ValueError, match=f"the last turn of the prompt is of {role}"):
        said(*turns)
