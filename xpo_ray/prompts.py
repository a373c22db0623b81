"""Prompt tables: the normalised dataset as token ids, which the schedule cuts into shards.

The driver makes one table for training and one for evaluation, each mapped from a file. Every prompt keeps its row number in
the normalised dataset, whatever was dropped before it, because that number is part of the seed of its draws. Nothing pads.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from xpo_ray.errors import DatasetError, ModelError, SpecError
from xpo_ray.prompt_file import PromptWriter
from xpo_ray.shards import PROMPTS
from xpo_ray.spec.data import DataSpec

if TYPE_CHECKING:
    from xpo_ray.chat import Chat
    from xpo_ray.datasets import Example

CHUNK_ROWS = 2048


@dataclass(frozen=True)
class PromptSet:
    """A table of the PROMPTS schema, and what became of the examples that were read."""

    table: pa.Table
    read: int
    dropped_overlong: int
    truncated_prompts: int
    cut_responses: int
    """Dataset responses over max_response_tokens, chosen and rejected counted apart; they have no EOS."""
    invalid_rows: int = 0
    """Left out because they could not be read, or the chat template refuses them."""
    origin: dict[str, str] | None = None
    """What the table was made from; None where that cannot be told, so that it is made again by every attempt."""

    @cached_property
    def fingerprint(self) -> str:
        """Of the table's content."""
        return fingerprint(self.table)

    @cached_property
    def _batches(self) -> tuple[list[pa.RecordBatch], npt.NDArray[np.int64]]:
        """The table's pieces, and the row behind each."""
        batches = [b for b in self.table.to_batches() if b.num_rows]
        return batches, np.cumsum([b.num_rows for b in batches], dtype=np.int64)

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Some rows, in the order given. Only these are read; `Table.take` asks every piece of every column for each call."""
        batches, ends = self._batches
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        cuts = np.searchsorted(ordered, ends).tolist()
        parts = [
            batches[i].take(pa.array(ordered[begin:end] - (ends[i] - batches[i].num_rows)))
            for i, (begin, end) in enumerate(zip([0, *cuts], cuts, strict=False))
            if end > begin
        ]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return pa.Table.from_batches(parts, PROMPTS).combine_chunks().take(pa.array(back))

    def counts(self) -> dict[str, int]:
        """What was read, kept, dropped and cut."""
        return {
            "read": self.read,
            "kept": self.table.num_rows,
            "invalid_rows": self.invalid_rows,
            "dropped_overlong": self.dropped_overlong,
            "truncated_prompts": self.truncated_prompts,
            "cut_responses": self.cut_responses,
        }


def tokenise(examples: Iterable["Example"], chat: "Chat", data: DataSpec) -> PromptSet:
    """Tokenise examples as they come. A row that the template refuses is left out where `data.invalid_rows` says so. Raises
    ModelError where it does not, DatasetError where no prompt is left."""
    with PromptWriter() as writer:
        builder = _Builder(chat, data, writer)
        for example in examples:
            builder.add(example)
        return builder.finish()


class _Builder:
    """Rows of dictionaries, written as Arrow whenever a chunk is full, and the counts so far."""

    def __init__(self, chat: "Chat", data: DataSpec, writer: PromptWriter) -> None:
        self.chat = chat
        self.data = data
        self.writer = writer
        self.rows: list[dict[str, Any]] = []
        self.read = self.dropped = self.truncated = self.cut = self.refused = 0
        self.first_refusal = ""

    def add(self, example: "Example") -> None:
        row, self.read = self.read, self.read + 1
        try:
            self._add(row, example)
        except ModelError as error:
            if self.data.invalid_rows == "refuse":
                raise ModelError(f"{example.where}: {error}") from error
            self.refused += 1
            self.first_refusal = self.first_refusal or f"{example.where}: {error}"

    def _add(self, row: int, example: "Example") -> None:
        ids = self.chat.prompt_ids(example.prompt, conversational=example.conversational)
        overlong = len(ids) > self.data.max_prompt_tokens
        if overlong and self.data.overlong_prompts == "drop":
            self.dropped += 1
            return
        columns = self._response(example, "chosen") | self._response(example, "rejected")
        kept = ids[-self.data.max_prompt_tokens :]
        self.rows.append(
            {"row": row, "prompt_id": example.prompt_id, "prompt": example.prompt, "prompt_ids": kept} | columns
        )
        self.truncated += overlong
        self.cut += sum(columns[f"{name}_ended"] is False for name in ("chosen", "rejected"))
        if len(self.rows) == CHUNK_ROWS:
            self._flush()

    def finish(self) -> PromptSet:
        self._flush()
        table = self.writer.finish()
        if table.num_rows == 0:
            raise DatasetError(self._none_left())
        return PromptSet(table, self.read, self.dropped, self.truncated, self.cut, self.refused)

    def _none_left(self) -> str:
        what = (
            f"no prompt is left: {self.read} read, {self.dropped} longer than data.max_prompt_tokens "
            f"{self.data.max_prompt_tokens}; raise it, or set data.overlong_prompts to truncate"
        )
        refused = f"; {self.refused} refused by the chat template, the first: {self.first_refusal}"
        return what + refused if self.refused else what

    def _response(self, example: "Example", name: Literal["chosen", "rejected"]) -> dict[str, Any]:
        """The columns of an answer. Its text is what its ids say, as of draws, so that judges see what is trained on."""
        text = example.chosen if name == "chosen" else example.rejected
        if text is None:
            return {name: None, f"{name}_ids": None, f"{name}_ended": None}
        ids, ended = self.chat.response_ids(example.prompt, text, self.data.max_response_tokens)
        return {name: self.chat.decode(ids), f"{name}_ids": ids, f"{name}_ended": ended}

    def _flush(self) -> None:
        if self.rows:
            self.writer.add(pa.Table.from_pylist(self.rows, schema=PROMPTS))
            self.rows = []


def fingerprint(table: pa.Table) -> str:
    """sha256 of a table's schema and values, as hex; the same however the table is chunked or sliced."""
    digest = hashlib.sha256(str(table.schema.remove_metadata()).encode())
    for start in range(0, table.num_rows, CHUNK_ROWS):
        for column in table.slice(start, CHUNK_ROWS).columns:
            _feed(digest, column.combine_chunks())
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", array: pa.Array) -> None:
    """Feed lengths and nulls first, then the values, so that no two arrays feed the same bytes."""
    digest.update(f"{array.type} {len(array)};".encode())
    digest.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_list(array.type):
        digest.update(array.value_lengths().fill_null(-1).to_numpy().tobytes())
        _feed(digest, array.flatten())
    elif pa.types.is_struct(array.type):
        for child in array.flatten():
            _feed(digest, child)
    elif pa.types.is_string(array.type):
        texts = [(text or "").encode() for text in array.to_pylist()]
        digest.update(",".join(str(len(text)) for text in texts).encode() + b";" + b"".join(texts))
    else:
        digest.update(array.fill_null(False if pa.types.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False))


def check_fill(prompts: int, partitions: int | None, batch_size: int) -> None:
    """Refuse partitions that would be empty or smaller than one step; None means fully online. Raises SpecError."""
    if partitions is not None and partitions > prompts:
        raise SpecError(
            f"data.partitions is {partitions}, but there are only {prompts} prompts; lower data.partitions to {prompts} or less"
        )
    smallest = prompts // (partitions or 1)
    if batch_size > smallest:
        place = f"the smallest of {partitions} partitions has" if partitions else "the dataset has"
        raise SpecError(
            f"training.batch_size is {batch_size}, but {place} {smallest} prompts (of {prompts}); lower training.batch_size"
            + (" or data.partitions" if partitions and partitions > 1 else "")
        )
