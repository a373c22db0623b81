"""Datasets: every format, every refusal, and nothing left behind."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny import tiny_pairs, write_parquet
from xpo_ray.datasets import Example, read_examples
from xpo_ray.datasets.files import data_files
from xpo_ray.datasets.reading import count_rows
from xpo_ray.datasets.survey import survey
from xpo_ray.errors import DatasetError
from xpo_ray.spec import ColumnsSpec, FilesSource, HubSource

USER = {"role": "user", "content": "Why?"}
GOOD, BAD = {"role": "assistant", "content": "Because."}, {"role": "assistant", "content": "No idea."}


def files(path: Any, limit: int | None = None) -> FilesSource:
    return FilesSource(kind="files", path=str(path) if isinstance(path, Path) else path, limit=limit)


def read(path: Any, *, needs_pairs: bool = True, limit: int | None = None, **columns: str) -> list[Example]:
    source = files(path, limit)
    return list(read_examples(source, ColumnsSpec(**columns), needs_pairs=needs_pairs, algorithm="selm"))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_json(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows, indent=1))
    return path


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


WRITERS: dict[str, Callable[[Path, list[Any]], Path]] = {
    "parquet": write_parquet,
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
}


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json"])
def test_ultrafeedback_takes_the_prompt_from_chosen_without_its_last_turn(tmp_path: Path, kind: str) -> None:
    path = WRITERS[kind](tmp_path / f"train.{kind}", tiny_pairs(5))
    examples = read(path)
    assert len(examples) == 5
    assert examples[2] == Example(
        prompt=({"role": "user", "content": "What helps a friend who is ill? (case 2)"},),
        conversational=True,
        chosen="Write a short note: I hope that you feel better soon. That settles case 2.",
        rejected="I would not know, case 2 is odd.",
        prompt_id="tiny-2",
        where=f"{path}, row 2 (counted from 0)",
    )


def test_earlier_turns_and_the_system_turn_belong_to_the_prompt(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": ""}, USER, BAD, USER]
    [example] = read(write_parquet(tmp_path / "a.parquet", [{"chosen": [*turns, GOOD], "rejected": [*turns, BAD]}]))
    assert list(example.prompt) == turns
    assert (example.chosen, example.rejected) == ("Because.", "No idea.")


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "json", "csv"])
def test_an_explicit_prompt_keeps_all_texts_as_they_are(tmp_path: Path, kind: str) -> None:
    rows = [
        {"prompt": " Say\n\nhi, ", "chosen": "hi ", "rejected": 'a "quoted", text'},
        {"prompt": "007", "chosen": "NA", "rejected": "2020-01-01"},
    ]
    examples = read(WRITERS[kind](tmp_path / f"a.{kind}", rows))
    assert [(e.prompt[0]["content"], e.chosen, e.rejected) for e in examples] == [tuple(r.values()) for r in rows]
    assert [e.conversational for e in examples] == [False, False]


def test_an_explicit_prompt_of_messages_is_conversational_with_texts_or_single_messages(tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "a.jsonl", [{"prompt": [USER], "chosen": "Because.", "rejected": "No idea."}])
    turns = write_jsonl(tmp_path / "b.jsonl", [{"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}])
    whole = write_jsonl(tmp_path / "c.jsonl", [{"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}])
    for path in (texts, turns, whole):
        [example] = read(path)
        assert (list(example.prompt), example.conversational) == ([USER], True)
        assert (example.chosen, example.rejected) == ("Because.", "No idea.")


def test_a_transcripts_prompt_is_what_both_have_before_the_last_answer(tmp_path: Path) -> None:
    head = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nand how?\n\nAssistant:"
    rows = [{"chosen": f"{head} Because.\n\nTruly.", "rejected": f"{head} No idea."}]
    [example] = read(write_jsonl(tmp_path / "hh.jsonl", rows))
    assert [(m["role"], m["content"]) for m in example.prompt] == [
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "Why?\n\nand how?"),
    ]
    assert (example.chosen, example.rejected) == ("Because.\n\nTruly.", "No idea.")
    assert example.conversational


def test_a_transcript_may_stand_in_the_prompt_column(tmp_path: Path) -> None:
    rows = [{"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": " Because.", "rejected": " No idea."}]
    [example] = read(write_jsonl(tmp_path / "hh.jsonl", rows))
    assert (list(example.prompt), example.chosen, example.conversational) == ([USER], "Because.", True)


def test_prompts_only_have_no_answers(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?"}, {"prompt": "How?"}]
    examples = read(write_jsonl(tmp_path / "a.jsonl", rows), needs_pairs=False)
    assert [(e.prompt[0]["content"], e.chosen, e.rejected) for e in examples] == [
        ("Why?", None, None),
        ("How?", None, None),
    ]


def test_pairs_that_are_there_are_read_though_they_are_not_needed_and_may_be_missing_in_a_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Why?", "chosen": "a", "rejected": "b"},
        {"prompt": "How?", "chosen": None, "rejected": None},
    ]
    path = write_parquet(tmp_path / "a.parquet", rows)
    assert [e.chosen for e in read(path, needs_pairs=False)] == ["a", None]
    with pytest.raises(DatasetError, match=r"row 1 \(counted from 0\), column 'chosen': the answer is empty"):
        read(path)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "Why?", "best": "a", "worst": "b", "id": 7, "x": 0}])
    [example] = read(path, prompt="question", chosen="best", rejected="worst", prompt_id="id")
    assert (example.prompt[0]["content"], example.chosen, example.rejected, example.prompt_id) == (
        "Why?",
        "a",
        "b",
        "7",
    )


def test_without_an_id_equal_prompts_have_equal_hashes(tmp_path: Path) -> None:
    rows = [{"prompt": p, "chosen": "a", "rejected": "b"} for p in ("Why?", "How?", "Why?")]
    first, second, third = (e.prompt_id for e in read(write_jsonl(tmp_path / "a.jsonl", rows)))
    assert first == third != second
    assert len(first) == 16


def test_files_are_read_in_order_each_once_and_rows_are_counted_per_file(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_jsonl(
            tmp_path / f"{name}.jsonl", [{"prompt": f"{name}{i}", "chosen": "x", "rejected": "y"} for i in range(2)]
        )
    (tmp_path / "README.md").write_text("not data")
    folder = read(tmp_path)
    assert [e.prompt[0]["content"] for e in folder] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert folder[3].where == f"{tmp_path / 'b.jsonl'}, row 1 (counted from 0)"
    glob = read((str(tmp_path / "c.jsonl"), str(tmp_path / "*.jsonl")))
    assert [e.prompt[0]["content"] for e in glob] == ["c0", "c1", "a0", "a1", "b0", "b1"]


def test_a_limit_reads_only_the_first_rows_even_where_later_ones_are_bad(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "x", "chosen": "a", "rejected": "b"}, {"prompt": None}])
    assert len(read(path, limit=1)) == 1


def test_names_with_glob_characters_are_plain_names(tmp_path: Path) -> None:
    folder = tmp_path / "we[i]rd dir"
    folder.mkdir()
    path = write_jsonl(folder / "a*b.jsonl", [{"prompt": "x", "chosen": "a", "rejected": "b"}])
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "Why?", "chosen": "", "rejected": "b"}, "column 'chosen': the answer is empty"),
        ({"prompt": "Why?", "chosen": "a", "rejected": " \n"}, "column 'rejected': the answer is empty"),
        ({"prompt": "Why?", "chosen": "a", "rejected": 3}, "column 'rejected': expected the text of an answer, got 3"),
        ({"prompt": "Why?", "chosen": "a", "rejected": None}, "column 'rejected': the answer is empty"),
        ({"prompt": " ", "chosen": "a", "rejected": "b"}, "column 'prompt': the prompt is empty"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "column 'prompt': expected a prompt, got 3"),
        ({"prompt": [USER, GOOD], "chosen": "a", "rejected": "b"}, "the prompt ends with a turn of the assistant"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "column 'chosen': a text without a prompt, got 'a'"),
        ({"chosen": [USER, GOOD], "rejected": [USER, USER]}, "column 'rejected': the last turn is of the user"),
        ({"chosen": [USER, {**GOOD, "content": ""}], "rejected": [USER, BAD]}, "'chosen': the answer is empty"),
        (
            {"chosen": [USER, GOOD], "rejected": [{**USER, "content": "Who?"}, BAD]},
            "column 'rejected': its prompt differs from that of 'chosen' in message 0: 'Why?' against 'Who?'",
        ),
        ({"chosen": [USER, GOOD], "rejected": [USER, GOOD, USER, BAD]}, "in the number of turns: 1 against 3"),
        ({"chosen": [USER, GOOD], "rejected": "b"}, "column 'rejected': a text without a prompt"),
        ({"chosen": [{"from": "human", "value": 3}], "rejected": [BAD]}, "message 0 is {'from': 'human'"),
        ({"chosen": [{"role": "tool", "content": "x"}, GOOD], "rejected": [BAD]}, "message 0 has the role 'tool'"),
        ({"prompt": [BAD, USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "'prompt': differs from the turns"),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"},
            "its prompt differs from that of 'chosen' in message 0: 'a' against 'c'",
        ),
    ],
)
def test_a_bad_row_is_refused_with_file_row_and_column(tmp_path: Path, row: dict[str, Any], words: str) -> None:
    good = {"prompt": "Why?", "chosen": "a", "rejected": "b"}
    path = write_jsonl(tmp_path / "a.jsonl", [good, row])
    with pytest.raises(DatasetError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, row 1 (counted from 0), column ")
    assert words in str(caught.value)
    assert "; " in str(caught.value), "a remedy follows"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"prompt": "a"}\n\n{"prompt": \n', "line 3 is not JSON"),
        ('{"prompt": "a"}\n{"prompt": "b', "line 2 is not JSON"),
        ('{"prompt": "a"}\n3\n', "line 2 is not a JSON object but int"),
        ('null{"prompt": "a"}\n', "line 1 is not JSON"),
        ('{"prompt": "a"}\nnull\n', "line 2 is not a JSON object but NoneType"),
        ("[" * 100_000, "is not JSON"),
        ('{"prompt": ' + "[" * 100_000 + "\n", "line 1 is not JSON"),
        ("", "no rows"),
        ("\n\n", "no rows"),
    ],
)
def test_a_broken_jsonl_file_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        read(path, needs_pairs=False)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'[{"prompt": "a"}, {"prompt"', "not JSON"),
        ("a.json", b'[{"prompt": "a"}, null]', "row 1 (counted from 0) is not JSON: it is NoneType and no object"),
        ("a.json", b'{\n"prompt": "a"\n}', "line 1 is not JSON"),
        ("a.json", b'{"data": "none"}', "found the columns data; needed are 'prompt'"),
        ("a.json", b"[]", "no rows"),
        ("a.parquet", b"PAR1 but no more", "not a Parquet file"),
        ("a.csv", b"prompt,chosen\n", "no rows"),
        ("a.csv", b"prompt,chosen\na,b\na,b,c\n", "row 1 (counted from 0): 3 fields, the header has 2"),
        ("a.csv", b"prompt,chosen\na\n", "row 0 (counted from 0): 1 fields, the header has 2"),
        ("a.csv", b"prompt,prompt\na,b\n", "the header names 'prompt' more than once"),
        ("a.csv", "prompt\né\n".encode("latin-1"), "can't decode byte"),
        ("a.txt", b"prompt", "unknown extension '.txt'; known are .parquet, .jsonl, .ndjson, .json, .csv"),
        ("a.parquet.gz", b"", "unknown extension '.gz'"),
        ("a.gz", b"", "unknown extension '.gz'"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read(path, needs_pairs=False)
    assert str(caught.value).count(str(path)) == 1
    assert words in str(caught.value)


def test_a_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = pa.Table.from_pylist(tiny_pairs(1500))
    texts = pa.array([b"caf\xe9" if i == 1203 else b"tea" for i in range(1500)], pa.binary())
    unsound = pa.StringArray.from_buffers(1500, *texts.buffers()[1:])
    pq.write_table(rows.set_column(1, "prompt_id", unsound), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"a\.parquet, row 1203 \(counted from 0\): not UTF-8"):
        read(tmp_path / "a.parquet")


def test_a_jsonl_line_that_is_not_utf8_is_refused_with_its_number(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", tiny_pairs(1500))
    path.write_bytes(path.read_bytes().replace(b"case 1203 is odd", b"case 1203 is \xe9dd"))
    with pytest.raises(DatasetError, match=r"a\.jsonl: line 1204 is not UTF-8: .*byte 0xe9.*WINDOWS-1252"):
        read(path)


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)
    with pytest.raises(DatasetError, match=r"a\.parquet: no rows"):
        read(path)


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", tiny_pairs(200))
    content = bytearray(path.read_bytes())
    content[500:900] = b"x" * 400
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.parquet: not a Parquet file, or damaged"):
        read(path)


def test_missing_columns_are_refused_with_those_found_and_needed(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"question": "a", "answer": "b"}])
    with pytest.raises(DatasetError, match=r"found the columns question, answer; needed are 'prompt'.*data\.columns"):
        read(path)


def test_prompts_only_are_refused_where_the_algorithm_reads_pairs(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{"prompt": "a", "chosen": "b"}])
    with pytest.raises(DatasetError, match=r"algorithm selm reads preference pairs.*'rejected'.*xpo or online_dpo"):
        read(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("trian.jsonl", "no such file or folder; did you mean train.jsonl?"),
        ("none/*.jsonl", "no file matches this glob"),
        (
            "empty",
            "no .parquet, .jsonl, .ndjson, .json, .csv, .tsv, .arrow file directly in this folder; for sub-folders give a glob",
        ),
        ("mixed", "files of several kinds (.json, .parquet)"),
    ],
)
def test_paths_that_name_no_files_are_refused(tmp_path: Path, path: str, words: str) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"prompt": "a"}])
    (tmp_path / "empty/inner").mkdir(parents=True)
    (tmp_path / "mixed").mkdir()
    write_parquet(tmp_path / "mixed/a.parquet", [{"prompt": "a"}])
    (tmp_path / "mixed/dataset_infos.json").write_text("{}")
    with pytest.raises(DatasetError) as caught:
        read(tmp_path / path)
    assert words in str(caught.value)
    with pytest.raises(DatasetError, match="an empty list"):
        data_files(())


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n{"a": 3}', 3),
        ("a.json", '[{"a": 1},\n {"a": 2}]', 2),
        ("a.csv", 'a,b\n"x\ny",2\n\n3,4\n', 2),
        ("a.csv", "", 0),
        ("a.jsonl", "", 0),
    ],
)
def test_rows_are_counted_without_reading_them(tmp_path: Path, name: str, text: str, rows: int) -> None:
    (tmp_path / name).write_text(text)
    assert count_rows(tmp_path / name) == rows


def test_reading_leaves_nothing_behind_and_changes_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from datasets.utils import are_progress_bars_disabled
    from datasets.utils.logging import get_verbosity

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    before = are_progress_bars_disabled(), get_verbosity()
    paths = [
        WRITERS[kind](tmp_path / f"a.{kind}", [{"prompt": "a", "chosen": "b", "rejected": "c"}]) for kind in WRITERS
    ]
    for path in paths:
        examples = read_examples(files(path), ColumnsSpec(), needs_pairs=True, algorithm="selm")
        assert len(list(islice(examples, 1))) == 1
        assert list((tmp_path / "tmp").iterdir()) == []
    assert (are_progress_bars_disabled(), get_verbosity()) == before
    assert capfd.readouterr() == ("", "")


def test_local_files_need_no_home_and_leave_none(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", tiny_pairs(3))
    home = tmp_path / "home"
    code = f"from tests.xpo_ray.test_datasets import read\nassert len(read({str(path)!r})) == 3\n"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))} | {"HOME": str(home)}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=root, env=env)
    assert not home.exists()


def test_a_hub_dataset_that_cannot_be_reached_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    source = HubSource(kind="hub", name="xpo-ray-tests/no-such-dataset", split="train_prefs")
    with pytest.raises(DatasetError, match=r"no-such-dataset\[train_prefs\].*check name, config, split.*kind: files"):
        list(read_examples(source, ColumnsSpec(), needs_pairs=False, algorithm="xpo"))


def in_the_hubs_cache(folder: Path, name: str, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset `owner/<name>` with the split train_prefs, as the hub's cache in a folder holds it."""
    import datasets

    cache = folder / "cache"
    train = write_parquet(folder / f"{name}.parquet", tiny_pairs(rows))
    datasets.load_dataset("parquet", data_files={"train_prefs": str(train)}, cache_dir=str(cache))
    [built] = (cache / "parquet").glob("*/*/*/")
    cached = cache / f"owner___{name}/default/0.0.0/abc"  # where the hub's datasets lie
    cached.parent.mkdir(parents=True)
    built.rename(cached)
    for file in cached.glob("parquet-*"):
        file.rename(cached / file.name.replace("parquet-", f"{name}-"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def from_hub(name: str | tuple[str, ...], split: str, limit: int) -> list[Example]:
    source = HubSource(kind="hub", name=name, split=split, limit=limit)
    return list(read_examples(source, ColumnsSpec(), needs_pairs=True, algorithm="selm"))


def test_a_hub_dataset_in_the_hubs_cache_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_hubs_cache(tmp_path, "name", 4, monkeypatch)
    examples = from_hub("owner/name", "train_prefs", 2)
    assert [e.prompt_id for e in examples] == ["tiny-0", "tiny-1"]
    assert examples[1].where == "owner/name[train_prefs], row 1 (counted from 0)"
    with pytest.raises(DatasetError, match=r"owner/name\[train\].*Should be one of \['train_prefs'\]"):
        from_hub("owner/name", "train", 2)


def test_the_splits_of_a_hub_dataset_are_told_with_the_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_hubs_cache(tmp_path, "name", 2, monkeypatch)
    found = survey(HubSource(kind="hub", name="owner/name", split="train_prefs"), ColumnsSpec())
    assert (found.parts, found.splits, found.split) == (("owner/name[train_prefs]",), ("train_prefs",), "train_prefs")
    assert found.unread == ()


def test_hub_datasets_of_a_list_are_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_hubs_cache(tmp_path, "one", 3, monkeypatch)
    in_the_hubs_cache(tmp_path, "two", 4, monkeypatch)
    examples = from_hub(("owner/two", "owner/one"), "train_prefs", 6)
    assert [e.where for e in examples[3:5]] == [
        "owner/two[train_prefs], row 3 (counted from 0)",
        "owner/one[train_prefs], row 0 (counted from 0)",
    ]
    assert len(examples) == 6  # of 7: the limit is of the whole


def test_a_revision_is_not_of_several_repositories() -> None:
    assert HubSource(kind="hub", name=("owner/one",), revision="abc").names == ("owner/one",)
    with pytest.raises(ValueError, match="revision abc is of one repository, name lists 2; leave revision out"):
        HubSource(kind="hub", name=("owner/one", "owner/two"), revision="abc")


def test_a_hub_name_that_is_a_folder_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner/name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    source = HubSource(kind="hub", name="owner/name")
    with pytest.raises(DatasetError, match=r"is also a folder here"):
        list(read_examples(source, ColumnsSpec(), needs_pairs=False, algorithm="xpo"))


def test_invalid_rows_are_left_out_and_told_when_the_user_asks_for_it(tmp_path: Path) -> None:
    rows = [{"prompt": f"p {i}", "chosen": "" if i == 1 else "good", "rejected": "bad"} for i in range(3)]
    write_parquet(tmp_path / "pairs.parquet", rows)
    source = FilesSource(kind="files", path=str(tmp_path / "pairs.parquet"))
    faults: list[DatasetError] = []
    kept = list(read_examples(source, ColumnsSpec(), needs_pairs=True, algorithm="dpo", on_fault=faults.append))
    assert [example.prompt[0]["content"] for example in kept] == ["p 0", "p 2"]
    assert len(faults) == 1
    assert "row 1" in str(faults[0])
