"""Messages in the forms that files hold them in, and texts that are none. Pure; refuses with file, row and column.

{"role": "user", "content": "Hi"}                                 as chat templates read them
{"from": "human", "value": "Hi"}                                  ShareGPT
{"role": "user", "content": [{"type": "text", "text": "Hi"}]}     content in parts
{"role": ["user"], "content": ["Hi"]}                             a list that `datasets` has turned into columns
"""

import datetime
import re
from typing import NoReturn

from xpo_ray.errors import DatasetError
from xpo_ray.judges.judgement import Message

Messages = tuple[Message, ...]
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
FORMATS = "docs/data-formats.md shows what a row may hold"
_WRITTEN = re.compile(r"""\s*(array\()?\[?\s*\{\s*['"](role|content|from|value)['"]\s*:""")


def refuse(where: str, column: str, fault: str, remedy: str) -> NoReturn:
    """Raise DatasetError for a value of a row."""
    raise DatasetError(f"{where}, column {column!r}: {fault}; {remedy}")


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def messages_of(value: object, where: str, column: str) -> Messages:
    """A non-empty list of messages, or one message; further keys of a message are left out. Raises DatasetError."""
    if isinstance(value, dict):
        if value and all(str(key).isdigit() for key in value):
            rows = "write one object for each row: DataFrame.to_json(path, orient='records', lines=True)"
            refuse(where, column, f"a whole column of a table, got {shown(value)}", rows)
        value = _turned(value)
    if not isinstance(value, list) or not value:
        refuse(where, column, f"expected a text or a list of messages, got {shown(value)}", FORMATS)
    return tuple(_message(item, i, where, column) for i, item in enumerate(value))


def sound(text: str, where: str, column: str) -> str:
    """A text that may be read as such. Raises DatasetError for what is a list of messages, or no Unicode."""
    if _WRITTEN.match(text) and _keyed(text):
        refuse(
            where,
            column,
            f"messages written as text, got {shown(text)}",
            "write the rows as jsonl or parquet, where a list stays a list; a csv file holds texts alone",
        )
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            refuse(where, column, f"holds half a character: {error}", "write the character whole, or leave it out")
    return text


def expected_text(value: object) -> tuple[str, str]:
    """What is wrong with a value that should be the text of an answer, and what to do about it."""
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta)):
        return f"expected the text of an answer, got the date {value}", "store the column as texts"
    return f"expected the text of an answer, got {shown(value)}", "give all answers as texts"


def _keyed(text: str) -> bool:
    """Both keys of a message stand in a text."""
    return any(
        all(re.search(f"['\"]{key}['\"]", text) for key in keys) for keys in (("role", "content"), ("from", "value"))
    )


def _turned(value: dict[object, object]) -> object:
    """A message as a list of one; a list of messages that was turned into columns as what it was."""
    for keys in (("role", "content"), ("from", "value")):
        columns = [value.get(key) for key in keys]
        if all(isinstance(column, list) for column in columns):
            roles, contents = columns
            assert isinstance(roles, list)
            assert isinstance(contents, list)
            if len(roles) == len(contents) and all(isinstance(role, str) for role in roles):
                return [dict(zip(keys, pair, strict=True)) for pair in zip(roles, contents, strict=True)]
    return [value]


def _message(item: object, i: int, where: str, column: str) -> Message:
    role, content = _role_and_content(item)
    if isinstance(content, list):
        content = _joined(content, i, where, column)
    if not isinstance(role, str) or not isinstance(content, str):
        refuse(where, column, f"message {i} is {shown(item)}", "a message has the texts 'role' and 'content'")
    if role not in ROLES:
        known = f"{', '.join(dict.fromkeys(ROLES.values()))} (or human and gpt)"
        refuse(where, column, f"message {i} has the role {role!r}", f"roles are {known}")
    return Message(role=ROLES[role], content=sound(content, where, column))


def _role_and_content(item: object) -> tuple[object, object]:
    if not isinstance(item, dict):
        return None, None
    if item.get("role") is None and item.get("content") is None:
        return item.get("from"), item.get("value")
    return item.get("role"), item.get("content")


def _joined(parts: list[object], i: int, where: str, column: str) -> str:
    """The text of content that is given in parts."""
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    odd = next((j for j, text in enumerate(texts) if not isinstance(text, str)), None)
    if odd is not None:
        refuse(where, column, f"part {odd} of message {i} is {shown(parts[odd])}", "only parts of type text are read")
    return "".join(str(text) for text in texts)
