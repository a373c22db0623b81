"""From a row of any known format to an Example. Pure; refuses with file, row and column what it cannot read.

chosen and rejected are message lists      UltraFeedback-binarized: the prompt is chosen without its last turn
prompt (string or messages) and texts      explicit prompt
chosen and rejected are transcripts        HH: the prompt is implied
prompt alone                               prompts only
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from xpo_ray.datasets.example import Example, hashed_prompt_id
from xpo_ray.datasets.transcript import transcript_messages, transcript_prompt
from xpo_ray.errors import DatasetError
from xpo_ray.judges.judgement import Message
from xpo_ray.spec.data import ColumnsSpec

Messages = tuple[Message, ...]
ROLES = ("user", "assistant", "system")


@dataclass(frozen=True)
class Reader:
    """Reads the rows of one file, whose columns have been checked."""

    columns: ColumnsSpec
    has_pairs: bool
    needs_pairs: bool

    def example(self, row: Mapping[str, object], where: str) -> Example:
        """The row in the normalised form. Raises DatasetError."""
        chosen, rejected = row.get(self.columns.chosen), row.get(self.columns.rejected)
        if not self.has_pairs or (not self.needs_pairs and chosen in (None, "", []) and rejected in (None, "", [])):
            prompt, conversational = _explicit_prompt(row.get(self.columns.prompt), where, self.columns.prompt)
            answers: tuple[str | None, str | None] = (None, None)
        elif isinstance(chosen, str) and row.get(self.columns.prompt) is not None:
            prompt, conversational, answers = self._texts(row, where)
        else:
            prompt, answers = self._conversations(row, where)
            conversational = True
        prompt_id = row.get(self.columns.prompt_id)
        prompt_id = hashed_prompt_id(prompt) if prompt_id in (None, "") else str(prompt_id)
        return Example(prompt, conversational, answers[0], answers[1], prompt_id, where)

    def _texts(self, row: Mapping[str, object], where: str) -> tuple[Messages, bool, tuple[str, str]]:
        value = row[self.columns.prompt]
        prompt, conversational = _explicit_prompt(value, where, self.columns.prompt)
        chosen, rejected = (_answer(row.get(c), where, c) for c in (self.columns.chosen, self.columns.rejected))
        if isinstance(value, str) and conversational:  # a transcript's answers begin with the blank behind the colon
            chosen, rejected = chosen.strip(), rejected.strip()
        return prompt, conversational, (chosen, rejected)

    def _conversations(self, row: Mapping[str, object], where: str) -> tuple[Messages, tuple[str, str]]:
        chosen_column, rejected_column = self.columns.chosen, self.columns.rejected
        prompt, chosen = _split(row.get(chosen_column), where, chosen_column)
        other, rejected = _split(row.get(rejected_column), where, rejected_column)
        if other != prompt:
            _refuse(
                where,
                rejected_column,
                f"its prompt differs from that of {chosen_column!r} in {_first_difference(prompt, other)}",
                "both must answer the same prompt: all turns but the last must be equal",
            )
        value = row.get(self.columns.prompt)
        if not prompt:
            return _explicit_prompt(value, where, self.columns.prompt)[0], (chosen, rejected)
        if isinstance(value, list) and _messages(value, where, self.columns.prompt) != prompt:
            _refuse(
                where,
                self.columns.prompt,
                f"differs from the turns before the answer in {chosen_column!r}",
                "give the prompt once, or the same in both",
            )
        _check_prompt(prompt, where, chosen_column)
        return prompt, (chosen, rejected)


def reader(found: Collection[str], columns: ColumnsSpec, where: str, *, needs_pairs: bool, algorithm: str) -> Reader:
    """The reader for a file with these columns. Raises DatasetError where the needed ones are missing."""
    has_pairs = columns.chosen in found and columns.rejected in found
    listed = ", ".join(found) or "none"
    if not has_pairs and columns.prompt not in found:
        raise DatasetError(
            f"{where}: found the columns {listed}; needed are {columns.prompt!r}, or {columns.chosen!r} and "
            f"{columns.rejected!r}, or all three; name yours under data.columns"
        )
    if needs_pairs and not has_pairs:
        raise DatasetError(
            f"{where}: algorithm {algorithm} reads preference pairs, and found are only the columns {listed}; needed are "
            f"{columns.chosen!r} and {columns.rejected!r}: add them, name yours under data.columns, or choose "
            "algorithm.kind xpo or online_dpo, which need prompts only"
        )
    return Reader(columns, has_pairs, needs_pairs)


def _refuse(where: str, column: str, fault: str, remedy: str) -> NoReturn:
    raise DatasetError(f"{where}, column {column!r}: {fault}; {remedy}")


def _explicit_prompt(value: object, where: str, column: str) -> tuple[Messages, bool]:
    """The prompt, and whether the dataset holds it as turns."""
    if isinstance(value, str) and value.strip():
        turns = transcript_prompt(value)
        prompt = turns or (Message(role="user", content=value),)
    elif isinstance(value, list) and value:
        turns = prompt = _messages(value, where, column)
    elif value in (None, "", []) or isinstance(value, str):
        _refuse(where, column, "the prompt is empty", "fill it or remove the row")
    else:
        _refuse(where, column, f"expected a prompt, got {_shown(value)}", "a prompt is a text or a list of messages")
    _check_prompt(prompt, where, column)
    return prompt, turns is not None


def _check_prompt(prompt: Messages, where: str, column: str) -> None:
    if prompt[-1]["role"] != "user":
        _refuse(
            where, column, f"the prompt ends with a turn of the {prompt[-1]['role']}", "it must end with the user's"
        )
    if not prompt[-1]["content"].strip():
        _refuse(where, column, "the prompt is empty", "fill the last user turn or remove the row")


def _split(value: object, where: str, column: str) -> tuple[Messages, str]:
    """A conversation as (the turns before the last answer, the last answer)."""
    if isinstance(value, str) and value.strip():
        messages = transcript_messages(value)
        if messages is None:
            _refuse(
                where,
                column,
                f"a text without a prompt, got {_shown(value)}",
                "add a prompt column, or give transcripts that begin with '\\n\\nHuman:'",
            )
    elif value in (None, "", []) or isinstance(value, str):
        _refuse(where, column, "the answer is empty", "fill it or remove the row")
    else:
        messages = _messages(value, where, column)
    if messages[-1]["role"] != "assistant":
        _refuse(where, column, f"the last turn is of the {messages[-1]['role']}", "it must be the assistant's answer")
    return messages[:-1], _answer(messages[-1]["content"], where, column)


def _answer(value: object, where: str, column: str) -> str:
    if value is not None and not isinstance(value, str):
        _refuse(where, column, f"expected the text of an answer, got {_shown(value)}", "give all answers as texts")
    if value is None or not value.strip():
        _refuse(where, column, "the answer is empty", "fill it or remove the row")
    return value


def _messages(value: object, where: str, column: str) -> Messages:
    """A non-empty list of {role, content}; further keys are left out."""
    if not isinstance(value, list) or not value:
        _refuse(
            where, column, f"expected a text or a list of messages, got {_shown(value)}", "see the README's formats"
        )
    return tuple(_message(item, i, where, column) for i, item in enumerate(value))


def _message(item: object, i: int, where: str, column: str) -> Message:
    role, content = (item.get("role"), item.get("content")) if isinstance(item, dict) else (None, None)
    if not isinstance(role, str) or not isinstance(content, str):
        _refuse(where, column, f"message {i} is {_shown(item)}", "a message has the texts 'role' and 'content'")
    if role not in ROLES:
        _refuse(where, column, f"message {i} has the role {role!r}", f"roles are {', '.join(ROLES)}")
    return Message(role=role, content=content)


def _first_difference(left: Messages, right: Messages) -> str:
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return f"message {i}: {_shown(a['content'])} against {_shown(b['content'])}"
    return f"the number of turns: {len(left)} against {len(right)}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
