"""A JSON text read piece by piece: the items of one array, one after the other, whatever the size of the array.

The reader of JSON files uses it for files that are not one object per line. It never holds more than some items.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import TextIO

CHUNK = 1 << 16
NOT_BLANK = re.compile(r"[^ \t\r\n]")
NEAR = 64
"""A fault so close to the end of what has been read may be the end of what has been read."""


WHOLE_NUMBERS = json.JSONDecoder()
LONG_NUMBERS = json.JSONDecoder(parse_int=float)
"""For whole numbers of more digits than Python reads as such."""


class NotJson(ValueError):
    """What is wrong with a text that is no JSON."""


class Scanner:
    """Where a text has been read to. Methods raise NotJson."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._at = 0
        self._chunk = CHUNK

    def enter_list(self, names: Collection[str]) -> str | None:
        """Stop before the first item of an array: the text's own (""), or the first one of objects in the object that the
        text is, whose key is given. None where there is no such array, or the object has one of these names."""
        if self._peek() == "[":
            self._take("[")
            return ""
        self._take("{")
        return self._next_list(names)

    def items(self) -> Iterator[object]:
        """The items up to the end of the array."""
        if self._peek() == "]":
            self._take("]")
            return
        while True:
            yield self._value()
            if self._peek() == "]":
                self._take("]")
                return
            self._take(",")

    def leave_list(self, inside: str | None) -> str | None:
        """Read the text to its end; the key of a second array of objects, if there is one."""
        if inside:
            if self._peek() == ",":
                self._take(",")
                if (other := self._next_list(())) is not None:
                    return other
            else:
                self._take("}")
        if self._peek():
            raise NotJson(f"there is more behind its end: {self._buffer[self._at : self._at + 20]!r}")
        return None

    def _next_list(self, names: Collection[str]) -> str | None:
        while self._peek() == '"':
            key = str(self._value())
            if key in names:
                return None
            self._take(":")
            if self._peek() == "[" and self._peek(behind=True) == "{":
                self._take("[")
                return key
            self._value()
            if self._peek() != ",":
                break
            self._take(",")
        self._take("}")
        return None

    def _value(self) -> object:
        self._peek()
        decoder = WHOLE_NUMBERS
        while True:
            try:
                value, end = decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._buffer) - NEAR
                if not cut or not self._more():
                    raise NotJson(error.msg) from error
                continue
            except RecursionError as error:
                raise NotJson("nested too deeply") from error
            except ValueError:
                decoder = LONG_NUMBERS
                continue
            if end == len(self._buffer) and self._more():  # a number may go on
                continue
            self._at = end
            self._chunk = CHUNK
            return value

    def _peek(self, *, behind: bool = False) -> str:
        """The next character that is not blank, or the first such one behind it; "" at the end."""
        self._at = self._blank(self._at)
        if self._at == len(self._buffer):
            return self._peek(behind=behind) if self._more() else ""
        if not behind:
            return self._buffer[self._at]
        at = self._blank(self._at + 1)
        if at == len(self._buffer):
            return self._peek(behind=behind) if self._more() else ""
        return self._buffer[at]

    def _blank(self, at: int) -> int:
        """The first position from there on that is not blank."""
        found = NOT_BLANK.search(self._buffer, at)
        return found.start() if found else len(self._buffer)

    def _take(self, character: str) -> None:
        found = self._peek()
        if found != character:
            raise NotJson(f"expected {character!r}, found {found!r}" if found else f"it ends before {character!r}")
        self._at += 1

    def _more(self) -> bool:
        """Read on; twice as much each time that one value asks again."""
        read = self._text.read(self._chunk)
        self._buffer, self._at = self._buffer[self._at :] + read, 0
        self._chunk *= 2
        return bool(read)
