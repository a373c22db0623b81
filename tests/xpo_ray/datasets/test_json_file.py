"""JSON files: every layout, in bounded pieces, with values that are what the file says."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.xpo_ray.test_datasets import read
from xpo_ray.datasets.json_file import JsonPart
from xpo_ray.datasets.json_scanner import CHUNK
from xpo_ray.errors import DatasetError
from xpo_ray.spec import ColumnsSpec

PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
NAMES = frozenset(ColumnsSpec().model_dump().values())


def part(path: Path, text: str) -> JsonPart:
    path.write_text(text, encoding="utf-8")
    return JsonPart(path, NAMES)


def test_answers_that_look_like_dates_or_numbers_stay_texts(tmp_path: Path) -> None:
    texts = ["2024-01-01", "2024-01-01T10:00:00Z", "007", "1e5", "null", "NaN"]
    rows = [{**PAIR, "chosen": text} for text in texts]
    part(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert [e.chosen for e in read(tmp_path / "a.jsonl")] == texts


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_what_stands_in_columns_that_nobody_reads_does_not_matter(tmp_path: Path, name: str) -> None:
    odd = ["null", "3", '{"a": [1, {"b": null}]}', '"text"', "[]", "NaN", "1" * 5000, '"\\ud800"', "1e999"]
    rows = [json.dumps(PAIR)[:-1] + f', "note": {value}' + "}" for value in odd]
    text = "\n".join(rows) if name == "a.jsonl" else "[" + ",\n".join(rows) + "]"
    part(tmp_path / name, text)
    assert len(read(tmp_path / name)) == len(odd)


def test_rows_need_not_have_the_same_keys(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "id": 1}] * 1500 + [PAIR, {"tag": "x", **PAIR}]
    part(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    examples = read(tmp_path / "a.jsonl", needs_pairs=False)
    assert [e.chosen for e in examples[-3:]] == [None, "Because.", "Because."]
    with pytest.raises(DatasetError, match=r"row 0 \(counted from 0\), column 'chosen': the answer is empty"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([PAIR, PAIR]),
        json.dumps([PAIR, PAIR], indent=2),
        json.dumps(PAIR) + "\n\n" + json.dumps(PAIR) + "\n\n\n",
        json.dumps(PAIR) + "\r\n" + json.dumps(PAIR) + "\r\n",
        json.dumps({"version": "1", "data": [PAIR, PAIR], "more": {"a": [1]}}),
        json.dumps({"data": [PAIR, PAIR]}, indent=2),
        "  \n\n" + json.dumps([PAIR, PAIR]),
        json.dumps({**PAIR, "chosen": "a\u2028b\x85c"}, ensure_ascii=False) + "\n" + json.dumps(PAIR),
    ],
)
def test_every_layout_is_read_and_counted(tmp_path: Path, text: str) -> None:
    found = part(tmp_path / "a.json", text)
    assert [e.rejected for e in read(tmp_path / "a.json")] == ["No.", "No."]
    assert found.count() == 2
    assert found.columns(lambda _: True) == list(PAIR)


def test_one_row_with_a_list_of_objects_is_a_row(tmp_path: Path) -> None:
    row = {"tags": [{"a": 1}], "prompt": [{"role": "user", "content": "Hi"}], "chosen": "a", "rejected": "b"}
    part(tmp_path / "a.jsonl", json.dumps(row))
    assert read(tmp_path / "a.jsonl")[0].prompt[0]["content"] == "Hi"


def test_an_array_is_read_in_pieces_whatever_its_size(tmp_path: Path) -> None:
    rows = [{**PAIR, "prompt": f"{i} " + "é" * (i % 7) * 5000} for i in range(60)]
    part(tmp_path / "a.json", json.dumps(rows, ensure_ascii=False))
    assert (tmp_path / "a.json").stat().st_size > 4 * CHUNK
    assert [e.prompt[0]["content"] for e in read(tmp_path / "a.json")] == [row["prompt"] for row in rows]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"train": [PAIR], "test": [PAIR]}), "two lists of objects, 'train' and 'test'"),
        (json.dumps(PAIR, indent=1) + "\n" + json.dumps(PAIR, indent=1), "jq -c"),
        (json.dumps([PAIR]) + json.dumps([PAIR]), "there is more behind its end"),
        (json.dumps([PAIR])[:-1], "it ends before ','"),
        ("[" + json.dumps(PAIR) + ",]", "row 1 (counted from 0) is not JSON"),
        (json.dumps({"prompt": {"0": "a", "1": "b"}}), "a whole column of a table"),
        ('{"prompt": "a" "chosen": 1}\n{}', "line 1 is not JSON: Expecting ',' delimiter"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(tmp_path: Path, text: str, words: str) -> None:
    part(tmp_path / "a.json", text)
    with pytest.raises(DatasetError) as caught:
        read(tmp_path / "a.json", needs_pairs=False)
    assert words in str(caught.value)


@pytest.mark.parametrize(("value", "said"), [(42, "42"), (None, "is empty"), (["a"], "['a']"), (float("nan"), "nan")])
def test_an_answer_that_is_no_text_is_refused_with_row_and_column(tmp_path: Path, value: Any, said: str) -> None:
    rows = [PAIR, {**PAIR, "rejected": value}]
    part(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    with pytest.raises(DatasetError, match=r"row 1 \(counted from 0\), column 'rejected'") as caught:
        read(tmp_path / "a.jsonl")
    assert said in str(caught.value)


def test_half_a_character_in_a_text_that_is_read_is_refused(tmp_path: Path) -> None:
    part(tmp_path / "a.jsonl", json.dumps({**PAIR, "chosen": "a \ud83d"}))
    with pytest.raises(DatasetError, match="column 'chosen': holds half a character"):
        read(tmp_path / "a.jsonl")
