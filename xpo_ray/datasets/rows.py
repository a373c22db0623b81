"""From a row of any known format to an Example. Pure; refuses with file, row and column what it cannot read.

chosen and rejected are message lists      UltraFeedback-binarized: the prompt is chosen without its last turn
prompt (string or messages) and texts      explicit prompt
conversations, chosen and rejected         ShareGPT: the turns before two answers
chosen and rejected are transcripts        HH: the prompt is implied
prompt alone                               prompts only
With any of these, a system column is the first turn. docs/data-formats.md shows an example of each.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from xpo_ray.datasets.agreement import agrees
from xpo_ray.datasets.example import Example, hashed_prompt_id
from xpo_ray.datasets.messages import FORMATS, Messages, expected_text, messages_of, refuse, shown, sound
from xpo_ray.datasets.transcript import transcript_messages, transcript_prompt
from xpo_ray.errors import DatasetError
from xpo_ray.judges.judgement import Message
from xpo_ray.spec.data import ColumnsSpec

MAX_LISTED = 300


@dataclass(frozen=True)
class Reader:
    """Reads the rows of one file, whose columns have been checked."""

    columns: ColumnsSpec
    needs_pairs: bool

    def example(self, row: Mapping[str, object], where: str) -> Example:
        """The row in the normalised form. Raises DatasetError."""
        prompt, conversational, answers = self._read(row, where)
        if system := self._system(row, where):
            prompt, conversational = self._with_system(system, prompt, where), True
        prompt_id = row.get(self.columns.prompt_id)
        prompt_id = hashed_prompt_id(prompt) if prompt_id in (None, "") else str(prompt_id)
        return Example(prompt, conversational, answers[0], answers[1], prompt_id, where)

    def _read(self, row: Mapping[str, object], where: str) -> tuple[Messages, bool, tuple[str | None, str | None]]:
        """The prompt, whether the dataset holds it as turns, and the answers."""
        chosen, rejected = row.get(self.columns.chosen), row.get(self.columns.rejected)
        column, value = self._prompt(row)
        both = self.columns.chosen in row and self.columns.rejected in row
        empty = chosen in (None, "", []) and rejected in (None, "", [])
        if not self.needs_pairs and (empty or not both):
            return *_explicit_prompt(value, where, column), (None, None)
        if value is not None and not isinstance(chosen, (list, dict)):
            return self._texts(row, column, where)
        return self._conversations(row, column, where)

    def _prompt(self, row: Mapping[str, object]) -> tuple[str, object]:
        """The column that a row's prompt stands in, if it stands in one of its own, and what is there."""
        if row.get(self.columns.prompt) is None and row.get(self.columns.conversations) is not None:
            return self.columns.conversations, row[self.columns.conversations]
        return self.columns.prompt, row.get(self.columns.prompt)

    def _texts(
        self, row: Mapping[str, object], column: str, where: str
    ) -> tuple[Messages, bool, tuple[str | None, str | None]]:
        value = row[column]
        prompt, conversational = _explicit_prompt(value, where, column)
        chosen, rejected = (_answer(row.get(c), where, c) for c in (self.columns.chosen, self.columns.rejected))
        if isinstance(value, str) and conversational:  # a transcript's answers begin with the blank behind the colon
            chosen, rejected = chosen.strip(), rejected.strip()
        return prompt, conversational, (chosen, rejected)

    def _conversations(
        self, row: Mapping[str, object], column: str, where: str
    ) -> tuple[Messages, bool, tuple[str | None, str | None]]:
        chosen_column, rejected_column = self.columns.chosen, self.columns.rejected
        prompt, chosen = _split(row.get(chosen_column), where, chosen_column)
        other, rejected = _split(row.get(rejected_column), where, rejected_column)
        if other != prompt:
            refuse(
                where,
                rejected_column,
                f"its prompt differs from that of {chosen_column!r} in {_first_difference(prompt, other)}",
                "both must answer the same prompt: all turns but the last must be equal",
            )
        value = row.get(column)
        if not prompt:
            return _explicit_prompt(value, where, column)[0], True, (chosen, rejected)
        _check_prompt(prompt, where, chosen_column)
        if value not in (None, "", []):
            self._check_agreement(value, prompt, column, where)
        return prompt, True, (chosen, rejected)

    def _check_agreement(self, value: object, prompt: Messages, column: str, where: str) -> None:
        """A prompt that is given twice must be the same; a text may be one of its questions."""
        if isinstance(value, str):
            same, said = agrees(value, prompt), shown(value)
        else:
            messages = messages_of(value, where, column)
            same, said = messages == prompt, shown([m["content"] for m in messages])
        if not same:
            read = shown(prompt[-1]["content"] if len(prompt) == 1 else [m["content"] for m in prompt])
            refuse(
                where,
                column,
                f"differs from the turns before the answer in {self.columns.chosen!r}: {said} against {read}",
                "give the prompt once, or the same in both",
            )

    def _system(self, row: Mapping[str, object], where: str) -> str | None:
        value = row.get(self.columns.system)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            refuse(where, self.columns.system, f"expected a text, got {shown(value)}", "give the system turn as a text")
        return sound(value, where, self.columns.system)

    def _with_system(self, system: str, prompt: Messages, where: str) -> Messages:
        first = prompt[0]
        if first["role"] != "system":
            return Message(role="system", content=system), *prompt
        if first["content"].strip() != system.strip():
            refuse(
                where,
                self.columns.system,
                f"differs from the prompt's system turn: {shown(system)} against {shown(first['content'])}",
                "give it once, or the same in both",
            )
        return prompt


def reader(found: Collection[str], columns: ColumnsSpec, where: str, *, needs_pairs: bool, algorithm: str) -> Reader:
    """The reader for a file with these columns. Raises DatasetError where the needed ones are missing."""
    has_pairs = columns.chosen in found and columns.rejected in found
    listed = ", ".join(name or '""' for name in found) or "none"
    listed = listed if len(listed) <= MAX_LISTED else listed[: MAX_LISTED - 1] + "…"
    if not has_pairs and columns.prompt not in found and columns.conversations not in found:
        raise DatasetError(
            f"{where}: found the columns {listed}; needed are {columns.prompt!r}, or {columns.chosen!r} and "
            f"{columns.rejected!r}, or all three; name yours under data.columns ({FORMATS})"
        )
    if needs_pairs and not has_pairs:
        raise DatasetError(
            f"{where}: algorithm {algorithm} reads preference pairs, and found are only the columns {listed}; needed are "
            f"{columns.chosen!r} and {columns.rejected!r}: add them, name yours under data.columns, or choose "
            "algorithm.kind xpo or online_dpo, which need prompts only"
        )
    return Reader(columns, needs_pairs)


def names_enough(found: Collection[str], columns: ColumnsSpec, *, needs_pairs: bool) -> bool:
    """Whether columns that were seen decide how a file is read, whatever others it has."""
    pairs = columns.chosen in found and columns.rejected in found
    return pairs or (not needs_pairs and (columns.prompt in found or columns.conversations in found))


def columns_read(found: Collection[str], columns: ColumnsSpec) -> dict[str, str]:
    """What each column that is read of a file stands for: prompt, chosen, rejected, system, prompt_id, conversations."""
    roles = {column: role for role, column in columns.model_dump().items() if column in found}
    if not {columns.chosen, columns.rejected} <= set(roles):
        roles = {column: role for column, role in roles.items() if role not in ("chosen", "rejected")}
    if columns.prompt in roles:
        roles.pop(columns.conversations, None)
    return roles


def _explicit_prompt(value: object, where: str, column: str) -> tuple[Messages, bool]:
    """The prompt, and whether the dataset holds it as turns."""
    if isinstance(value, str) and value.strip():
        turns = transcript_prompt(sound(value, where, column))
        prompt = turns or (Message(role="user", content=value),)
    elif isinstance(value, (list, dict)) and value:
        turns = prompt = messages_of(value, where, column)
    elif value in (None, "", []) or isinstance(value, str):
        refuse(where, column, "the prompt is empty", "fill it or remove the row")
    else:
        refuse(where, column, f"expected a prompt, got {shown(value)}", "a prompt is a text or a list of messages")
    _check_prompt(prompt, where, column)
    return prompt, turns is not None


def _check_prompt(prompt: Messages, where: str, column: str) -> None:
    if prompt[-1]["role"] != "user":
        refuse(where, column, f"the prompt ends with a turn of the {prompt[-1]['role']}", "it must end with the user's")
    if not prompt[-1]["content"].strip():
        refuse(where, column, "the prompt is empty", "fill the last user turn or remove the row")


def _split(value: object, where: str, column: str) -> tuple[Messages, str]:
    """A conversation as (the turns before the last answer, the last answer)."""
    if isinstance(value, str) and value.strip():
        messages = transcript_messages(sound(value, where, column))
        if messages is None:
            refuse(
                where,
                column,
                f"a text without a prompt, got {shown(value)}",
                "add a prompt column, or give transcripts that begin with '\\n\\nHuman:'",
            )
    elif value in (None, "", []) or isinstance(value, str):
        refuse(where, column, "the answer is empty", "fill it or remove the row")
    else:
        messages = messages_of(value, where, column)
    if messages[-1]["role"] != "assistant":
        refuse(where, column, f"the last turn is of the {messages[-1]['role']}", "it must be the assistant's answer")
    return messages[:-1], _answer(messages[-1]["content"], where, column)


def _answer(value: object, where: str, column: str) -> str:
    if value is not None and not isinstance(value, str):
        refuse(where, column, *expected_text(value))
    if value is None or not value.strip():
        refuse(where, column, "the answer is empty", "fill it or remove the row")
    return sound(value, where, column)


def _first_difference(left: Messages, right: Messages) -> str:
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return f"message {i}: {shown(a['content'])} against {shown(b['content'])}"
    return f"the number of turns: {len(left)} against {len(right)}"
