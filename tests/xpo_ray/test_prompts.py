"""Prompt tables: ids, counts, row numbers, the fingerprint, and partitions that can be filled."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tiny import CHAT_TEMPLATE, END, tiny_pairs, tiny_tokenizer, write_parquet
from xpo_ray.chat import Chat
from xpo_ray.datasets import Example, read_examples
from xpo_ray.errors import DatasetError, ModelError, SpecError
from xpo_ray.judges.judgement import Message
from xpo_ray.prompts import CHUNK_ROWS, check_fill, fingerprint, tokenise
from xpo_ray.shards import PROMPTS
from xpo_ray.spec import ColumnsSpec, DataSpec, FilesSource


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(tiny_tokenizer(), name="tiny", template=CHAT_TEMPLATE)


def data(**settings: Any) -> DataSpec:
    return DataSpec(source=FilesSource(kind="files", path="unused"), **settings)


def example(text: str, chosen: str | None = "Yes.", rejected: str | None = "No.", **changes: Any) -> Example:
    prompt = (Message(role="user", content=text),)
    return replace(Example(prompt, False, chosen, rejected, text[:4], "here, row 0"), **changes)


def test_a_row_has_what_models_and_judges_read(chat: Chat, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", tiny_pairs(3))
    source = FilesSource(kind="files", path=str(path))
    prompts = tokenise(read_examples(source, ColumnsSpec(), needs_pairs=True, algorithm="selm"), chat, data())
    assert prompts.table.schema == PROMPTS
    assert (prompts.read, prompts.dropped_overlong, prompts.truncated_prompts, prompts.cut_responses) == (3, 0, 0, 0)
    row = prompts.table.to_pylist()[1]
    assert (row["row"], row["prompt_id"]) == (1, "tiny-1")
    assert row["prompt"] == [{"role": "user", "content": "Why is the sky blue? (case 1)"}]
    assert row["prompt_ids"] == chat.prompt_ids(row["prompt"])
    assert row["chosen_ids"] == [*chat.tokenizer(row["chosen"]).input_ids, chat.eos_id]
    assert (row["chosen_ended"], row["rejected_ended"]) == (True, True)
    assert chat.decode(row["rejected_ids"]) == row["rejected"]


def test_overlong_prompts_are_dropped_and_the_others_keep_their_row_numbers(chat: Chat) -> None:
    examples = [example("short"), example("long " * 50), example("tiny")]
    prompts = tokenise(examples, chat, data(max_prompt_tokens=40))
    assert prompts.table["row"].to_pylist() == [0, 2]
    assert (prompts.read, prompts.dropped_overlong, prompts.truncated_prompts) == (3, 1, 0)


def test_a_truncated_prompt_keeps_its_end(chat: Chat) -> None:
    whole = chat.prompt_ids(example("long " * 50).prompt)
    settings = data(max_prompt_tokens=40, overlong_prompts="truncate")
    prompts = tokenise([example("short"), example("long " * 50)], chat, settings)
    assert prompts.table["prompt_ids"].to_pylist()[1] == whole[-40:]
    assert (prompts.read, prompts.dropped_overlong, prompts.truncated_prompts) == (2, 0, 1)
    exact = tokenise([example("long " * 50)], chat, data(max_prompt_tokens=len(whole)))
    assert (exact.table.num_rows, exact.truncated_prompts) == (1, 0)


def test_a_cut_response_has_no_eos_and_judges_see_the_text_that_is_trained_on(chat: Chat) -> None:
    prompts = tokenise([example("q", chosen="a b c d e f g h", rejected="a")], chat, data(max_response_tokens=5))
    [row] = prompts.table.to_pylist()
    assert (len(row["chosen_ids"]), row["chosen_ended"]) == (5, False)
    assert chat.eos_id not in row["chosen_ids"]
    assert row["chosen"] == chat.decode(row["chosen_ids"]) != "a b c d e f g h"
    assert (row["rejected"], row["rejected_ended"], row["rejected_ids"][-1]) == ("a", True, chat.eos_id)
    assert prompts.cut_responses == 1


def test_prompts_only_have_null_pairs(chat: Chat) -> None:
    [row] = tokenise([example("q", None, None)], chat, data()).table.to_pylist()
    names = [f"{side}{end}" for side in ("chosen", "rejected") for end in ("", "_ids", "_ended")]
    assert [row[name] for name in names] == [None] * 6


def test_examples_are_taken_one_by_one_and_chunks_join_to_one_table(chat: Chat) -> None:
    def many() -> Iterator[Example]:
        for i in range(CHUNK_ROWS + 3):
            yield example(f"question {i}", None, None)

    table = tokenise(many(), chat, data()).table
    assert table["row"].to_pylist() == list(range(CHUNK_ROWS + 3))


def test_rows_that_are_taken_are_those_of_the_table_whatever_its_pieces(chat: Chat) -> None:
    whole = tokenise([example(f"question {i}", "Yes." if i % 2 else None) for i in range(50)], chat, data())
    pieces = pa.concat_tables(
        [whole.table.slice(0, 7), whole.table.slice(7, 0), whole.table.slice(7, 30), whole.table[37:]]
    )
    rows = np.random.default_rng(0).permutation(50)[:31]
    for prompts in (whole, replace(whole, table=pieces)):
        assert prompts.take(rows).to_pylist() == [whole.table.to_pylist()[i] for i in rows]
        assert prompts.take(rows).schema == PROMPTS
    assert whole.take(np.array([3, 3, 0]))["row"].to_pylist() == [3, 3, 0]
    assert whole.take(np.arange(0)).num_rows == 0


def test_taking_rows_allocates_for_these_alone(chat: Chat) -> None:
    prompts = tokenise([example(f"question {i}") for i in range(5000)], chat, data())
    rows = np.arange(4990, 0, -499)
    before = pa.total_allocated_bytes()
    taken = prompts.take(rows)
    assert pa.total_allocated_bytes() - before < 100_000 < prompts.table.nbytes
    assert taken.num_rows == len(rows)


def test_no_prompt_left_is_refused_with_the_numbers(chat: Chat) -> None:
    with pytest.raises(DatasetError, match=r"2 read, 2 longer than data\.max_prompt_tokens 3; raise it, or set"):
        tokenise([example("one"), example("two")], chat, data(max_prompt_tokens=3))
    with pytest.raises(DatasetError, match="0 read"):
        tokenise([], chat, data())


def test_a_template_that_fails_names_the_row() -> None:
    bare = Chat(tiny_tokenizer(chat=False), name="bare", template=None)
    assert tokenise([example("one")], bare, data()).read == 1
    with pytest.raises(ModelError, match=r"here, row 0: bare: the tokenizer has no chat template"):
        tokenise([example("one", conversational=True)], bare, data())


def no_system(**settings: Any) -> tuple[Chat, list[Example]]:
    """A template that refuses system turns, as Gemma's does, and rows of which the second has one."""
    refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    system = (Message(role="system", content="Be brief."), Message(role="user", content="two"))
    rows = [example("one"), example("two", prompt=system, where="here, row 1"), example("three")]
    return Chat(tiny_tokenizer(), name="m", template=refuses + CHAT_TEMPLATE, **settings), rows


def test_a_row_that_the_template_refuses_is_named() -> None:
    chat, rows = no_system()
    with pytest.raises(
        ModelError, match=r"here, row 1: m: the chat template failed on turns of system, user: .*no system"
    ):
        tokenise(rows, chat, data())


def test_rows_that_the_template_refuses_are_left_out_and_counted_where_asked() -> None:
    chat, rows = no_system()
    prompts = tokenise(rows, chat, data(invalid_rows="drop"))
    assert prompts.table["row"].to_pylist() == [0, 2]
    assert (prompts.read, prompts.invalid_rows) == (3, 1)
    with pytest.raises(
        DatasetError, match=r"1 refused by the chat template, the first: here, row 1: .*no system turns"
    ):
        tokenise(rows[1:2], chat, data(invalid_rows="drop"))


def test_judges_see_dataset_answers_as_they_see_draws(chat: Chat) -> None:
    [row] = tokenise([example("q", f"Yes.{END}", f"No.{END}\n")], chat, data()).table.to_pylist()
    assert (row["chosen"], row["rejected"]) == ("Yes.", "No.")
    assert row["chosen_ids"].count(chat.eos_id) == 1


def test_the_fingerprint_depends_on_content_alone(chat: Chat) -> None:
    table = tokenise([example(f"question {i}", "Yes." if i % 2 else None) for i in range(20)], chat, data()).table
    pieces = pa.concat_tables([table.slice(0, 3), table.slice(3, 0), table.slice(3, 16), table.slice(19)])
    assert pieces["prompt"].num_chunks > 1
    assert fingerprint(pieces) == fingerprint(table) == fingerprint(pa.Table.from_pylist(table.to_pylist(), PROMPTS))
    assert len(fingerprint(table)) == 64
    others = [table.slice(1), table.slice(0, 19), table.take(list(range(19, -1, -1)))]
    assert len({fingerprint(t) for t in [table, *others]}) == 4


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("row", 8),
        ("prompt_id", "que"),
        ("prompt", [{"role": "user", "content": "question 8"}]),
        ("prompt", [{"role": "system", "content": "question 7"}]),
        ("prompt_ids", [1, 2]),
        ("chosen", None),
        ("chosen_ids", []),
        ("chosen_ids", None),
        ("chosen_ended", False),
        ("chosen_ended", None),
    ],
)
def test_the_fingerprint_sees_every_value(chat: Chat, column: str, value: Any) -> None:
    rows = tokenise([example(f"question {i}") for i in range(10)], chat, data()).table.to_pylist()
    before = fingerprint(pa.Table.from_pylist(rows, PROMPTS))
    rows[7][column] = value
    assert fingerprint(pa.Table.from_pylist(rows, PROMPTS)) != before


def test_the_fingerprint_tells_texts_apart_that_join_to_the_same() -> None:
    schema = pa.schema([("a", pa.string())])
    tables = [pa.table({"a": texts}, schema) for texts in (["ab", "c"], ["a", "bc"], ["", "abc"], [None, "abc"])]
    assert len({fingerprint(t) for t in tables}) == 4


@pytest.mark.parametrize(
    ("prompts", "partitions", "batch", "words"),
    [
        (2, 3, 1, "data.partitions is 3, but there are only 2 prompts; lower data.partitions to 2 or less"),
        (10, 3, 4, "training.batch_size is 4, but the smallest of 3 partitions has 3 prompts (of 10)"),
        (10, 1, 11, "the smallest of 1 partitions has 10 prompts"),
        (10, None, 11, "training.batch_size is 11, but the dataset has 10 prompts"),
    ],
)
def test_partitions_that_cannot_be_filled_are_refused(
    prompts: int, partitions: int | None, batch: int, words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        check_fill(prompts, partitions, batch)
    assert words in str(caught.value)
    assert "lower" in str(caught.value)


@pytest.mark.parametrize(("prompts", "partitions", "batch"), [(10, 3, 3), (10, 10, 1), (10, None, 10), (10, 1, 10)])
def test_partitions_that_can_be_filled_pass(prompts: int, partitions: int | None, batch: int) -> None:
    check_fill(prompts, partitions, batch)
