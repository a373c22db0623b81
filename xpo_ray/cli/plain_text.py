"""Text that came from outside, made harmless for a terminal: no escape sequences, no markup, no reversed writing.

Every command that shows what a service, a model or a user wrote sends it through here.
"""

import re
import sys
import unicodedata
from typing import Any

from rich.markup import escape
from rich.text import Text

KEPT = "\n\t"
COLOURS = re.compile("\x1b\\[[0-9;]*m")
TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They change the direction of writing, so that a line reads as what it is not."""


def plain(text: object) -> str:
    """The text without control characters; where one stood, stands U+FFFD."""
    return "".join(c if c in KEPT or _harmless(c) else "\ufffd" for c in str(text))


def tell_aside(text: str) -> None:
    """Say something that is no part of a command's answer, on standard error."""
    print(plain(text), file=sys.stderr)


def uncoloured(text: str) -> str:
    """The text without the colours that programs give their words on a terminal; what else is in it stays."""
    return COLOURS.sub("", text)


def line(text: object, width: int | None = None) -> str:
    """As `plain`, on one line, cut where it is longer than `width`."""
    whole = " ".join(plain(text).split())
    return whole if width is None or len(whole) <= width else whole[: width - 1] + "…"


def cell(text: object, style: str = "") -> Text:
    """A cell of a table: Rich does not look for markup in it."""
    return Text(line(text), style=style)


def unmarked(value: Any) -> Any:
    """Plain data whose texts may stand within markup and show as they are."""
    if isinstance(value, str):
        return escape(line(value))
    if isinstance(value, dict):
        return {key: unmarked(each) for key, each in value.items()}
    return [unmarked(each) for each in value] if isinstance(value, list) else value


def _harmless(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cs") and character not in TURNING
