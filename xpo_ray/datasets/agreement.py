"""Whether the text of a prompt column says the same as the turns before the answer. Pure; the rows ask.

Files hold the first question there, or the last one, or all turns in one text, with or without the marks of a template.
"""

import re

from xpo_ray.judges.judgement import Message

MARKS = re.compile(
    r"(?:<[^<>]{1,40}>|\[/?[A-Z_]{1,20}\]|\b(?:user|assistant|system|human|model|gpt|question|answer|instruction|response)\b"
    r"|[\W_])*+",
    re.IGNORECASE,
)
"""What templates put around turns."""


def agrees(text: str, turns: tuple[Message, ...]) -> bool:
    """Whether a text is one of the questions, or the turns in their order. Blanks do not count."""
    said = _plain(text)
    asked = [_plain(turn["content"]) for turn in turns if turn["role"] == "user"]
    if said in (asked[0], asked[-1]):
        return True
    spoken = [_plain(turn["content"]) for turn in turns if turn["role"] != "system"]
    return any(_in_order(said, contents) for contents in ([_plain(t["content"]) for t in turns], spoken, asked))


def _in_order(said: str, contents: list[str]) -> bool:
    """Whether a text holds these contents one behind the other, and nothing else but marks."""
    at = 0
    for content in filter(None, contents):
        begin = said.find(content, at)
        while begin >= 0 and not MARKS.fullmatch(said, at, begin):
            begin = said.find(content, begin + 1)
        if begin < 0:
            return False
        at = begin + len(content)
    return MARKS.fullmatch(said, at) is not None


def _plain(text: str) -> str:
    return " ".join(text.split())
