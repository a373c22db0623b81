"""A dataset's answer as the chat template writes it: what stands between the prompt and the end of the assistant's turn.

A draw goes on from the prompt's ids to an end-of-turn token; the answer of a dataset gets the same form by rendering the
conversation and reading what stands behind the prompt. Chat calls this. Texts alone; nothing here encodes.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from xpo_ray.chat_template import ChatTemplate
from xpo_ray.errors import ModelError
from xpo_ray.judges.judgement import Message

QUESTION = Message(role="user", content="Hello.")
PROBE = "Good morning to you"
EMPTY_ELEMENT = re.compile(r"\s*<([^<>/]+)>\s*</\1>\s*")
OPEN_ELEMENT = re.compile(r"\s*<[^<>/|]+>\s*")
BESIDE_THE_WORDS = re.compile(r"\s+|</?\w+>")

IN_PROMPT = ("the prompt", "the conversation")
IN_DATASET = ("the dataset", "the template")
Difference = Callable[[str, str, tuple[str, str]], str]
"""Names the first token in which two texts differ, given what to call the texts."""


@dataclass(frozen=True)
class Turn:
    """How a template ends an assistant's turn, read off a conversation of its own making."""

    behind: str
    """What follows an answer at the end of a conversation."""
    tail: str
    """The part of it that belongs to the response, in front of the end-of-turn token."""
    end: str | None
    """The end-of-turn token; None where the template writes none."""
    unprompted: str = ""
    """What the template writes before an answer and leaves out of the prompt, having no generation prompt."""


def read_turn(template: ChatTemplate, specials: Collection[str], ends: Collection[str]) -> Turn | None:
    """How a turn ends, given the tokenizer's special tokens and those of them that are declared to end a text. None where the
    template cannot render an answer, or leaves it out."""
    try:
        written = template.conversation([QUESTION, _answer(PROBE)])
    except ModelError:
        return None
    begin = written.rfind(PROBE)
    if begin < 0:
        return None
    behind = written[begin + len(PROBE) :]
    tail, end = _ended(behind, specials, ends)
    if end is None and (next_turn := _next_turn(template, specials, ends)) is not None:
        tail, end = next_turn
    return Turn(behind, tail, end, _unprompted(template, written[:begin]))


def _ended(behind: str, specials: Collection[str], ends: Collection[str]) -> tuple[str, str | None]:
    """What stands in front of the end of the turn, and the end: of the first special tokens that stand side by side the one
    that is declared to end a text, else the last."""
    token = re.compile("|".join(re.escape(t) for t in sorted(specials, key=len, reverse=True)) or r"(?!)")
    found = token.search(behind)
    if found is None:
        return behind.rstrip(), None
    run = [found]
    while (follows := token.match(behind, run[-1].end())) is not None:
        run.append(follows)
    chosen = next((one for one in run if one.group() in ends), run[-1])
    return behind[: chosen.start()], chosen.group()


def _next_turn(
    template: ChatTemplate, specials: Collection[str], ends: Collection[str]
) -> tuple[str, str | None] | None:
    """Where the next turn's first token is declared to end a text, it is what ends an answer (GLM-4)."""
    try:
        written = template.conversation([QUESTION, _answer(PROBE), QUESTION])
    except ModelError:
        return None
    tail, end = _ended(written[written.rfind(PROBE) + len(PROBE) :], specials, ends)
    return (tail, end) if end in ends else None


def _unprompted(template: ChatTemplate, written: str) -> str:
    """What stands between a prompt and an answer, where asking for a generation prompt changes nothing."""
    prompt = template.prompt([QUESTION])
    if prompt != template.conversation([QUESTION]) or not written.startswith(prompt):
        return ""
    return written[len(prompt) :].strip()


def written_answer(
    template: ChatTemplate, turn: Turn | None, messages: Sequence[Message], prompt: str, text: str, told: Difference
) -> str:
    """What the response is, without its end-of-turn token: the template's text behind the rendered `prompt`. Raises
    ModelError where the prompt is no beginning of the conversation, or the answer is not in it; `told` says which token of two
    texts is the first that differs."""
    if turn is None:
        raise ModelError(
            f"{template.name}: the chat template does not write an assistant's answer, so the dataset's answers cannot be read "
            "as it would write them; mend the template or name another in model.chat_template"
        )
    if turn.unprompted:
        raise ModelError(
            f"{template.name}: the chat template writes {turn.unprompted!r} before an answer, but not at the end of a prompt "
            "(it has no generation prompt), so draws would begin elsewhere; write it in the template behind "
            "{% if add_generation_prompt %}"
        )
    conversation = template.conversation([*messages, _answer(text)])
    same = len(prompt) if conversation.startswith(prompt) else _common(prompt, conversation)
    surplus, behind = prompt[same:], conversation[same:]
    if _opened(prompt, text) and (surplus or _lacks(behind, text)):
        return _continued(prompt, text)
    if surplus.strip() and not EMPTY_ELEMENT.fullmatch(surplus):
        behind = _behind_header(surplus, behind, text)
    if not behind:
        differ = told(prompt, conversation, IN_PROMPT)
        raise ModelError(
            f"{template.name}: behind the prompt the chat template would not write this answer: {differ}; {_remedy(surplus)}"
        )
    body = behind[: len(behind) - len(turn.behind)] if behind.endswith(turn.behind) else behind.rstrip()
    if _lacks(body, text):
        differ = told(text, body.lstrip(), IN_DATASET)
        raise ModelError(
            f"{template.name}: the chat template changes the answer {_shown(text)}: {differ}; give answers as the template "
            "writes them, or name another template in model.chat_template"
        )
    return body + turn.tail


def _behind_header(surplus: str, behind: str, text: str) -> str:
    """The answer's turn without its header, where prompt and conversation merely name the role otherwise (model, assistant);
    empty where one of them has more than that."""
    header, found, _ = behind.partition(text.strip())
    plain = found and "<" not in surplus + header
    return behind[len(header) :] if plain else ""


def _remedy(surplus: str) -> str:
    if OPEN_ELEMENT.fullmatch(surplus):
        tag = surplus.strip()
        return (
            f"the prompt opens a thought that the template does not close: give answers that begin with {tag} and close it, "
            "set model.template_arguments where the template can leave it out (enable_thinking: false), or name a template "
            "without it in model.chat_template"
        )
    return "name a template in model.chat_template whose generation prompt is how an assistant's turn begins"


def _opened(prompt: str, text: str) -> bool:
    """Whether the answer begins with the element that the prompt opens at its end, so that it goes on from there."""
    begins = re.match(r"\s*(<[^<>/]+>)", text)
    return begins is not None and prompt.rstrip().endswith(begins.group(1))


def _continued(prompt: str, text: str) -> str:
    """The answer without its beginning, which the prompt has."""
    return text[text.index(">") + 1 :].removeprefix(prompt[len(prompt.rstrip()) :])


def _lacks(written: str, text: str) -> bool:
    """Whether a text is not in what was written, white space and tags aside."""
    if text.strip() in written:
        return False
    return BESIDE_THE_WORDS.sub("", text) not in BESIDE_THE_WORDS.sub("", written)


def _common(prompt: str, conversation: str) -> int:
    """Length of the common beginning, in front of a tag that only begins alike."""
    pairs = zip(prompt, conversation, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(prompt), len(conversation)))
    tag = prompt.rfind("<", 0, same)
    return tag if tag > prompt.rfind(">", 0, same) else same


def _answer(text: str) -> Message:
    return Message(role="assistant", content=text)


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 120 else f"{text[:60]!r} ... {text[-60:]!r}"
