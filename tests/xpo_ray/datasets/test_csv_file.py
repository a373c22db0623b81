"""CSV files: delimiters, headers, quotes, and what is refused instead of being read wrongly."""

from pathlib import Path

import pytest

from tests.xpo_ray.test_datasets import read
from xpo_ray.errors import DatasetError


def rows(path: Path, content: str) -> list[tuple[str, str | None, str | None]]:
    path.write_bytes(content.encode())
    return [(e.prompt[0]["content"], e.chosen, e.rejected) for e in read(path, needs_pairs=False)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fields_may_be_separated_by_what_the_header_says(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = [["prompt", "chosen", "rejected"], ['"a, b; c\td|e"', '"x\ny ""z"""', "w"], ["NA", "", ""]]
    text = end.join(delimiter.join(line) for line in lines) + end + end
    assert rows(tmp_path / "a.csv", text) == [("a, b; c\td|e", 'x\ny "z"', "w"), ("NA", None, None)]


@pytest.mark.parametrize(
    "text",
    [
        ",prompt,chosen,rejected\n0,a,b,c\n",
        "Unnamed: 0,prompt,chosen,rejected\n0,a,b,c\n",
        "\ufeffprompt,chosen,rejected\na,b,c\n",
        "sep=;\r\nprompt;chosen;rejected\r\na;b;c\r\n",
        "prompt, chosen, rejected\na,b,c\n",
        "note,note,prompt,chosen,rejected,,\n1,2,a,b,c,,\n",
        "\n\nprompt,chosen,rejected\n\na,b,c\n\n\n",
    ],
)
def test_what_stands_around_the_columns_that_are_read_does_not_matter(tmp_path: Path, text: str) -> None:
    assert rows(tmp_path / "a.csv", text) == [("a", "b", "c")]


def test_a_tsv_file_has_tabs_and_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.tsv", "prompt\tnote\na, b\t1\n") == [("a, b", None, None)]
    assert rows(tmp_path / "a.csv", "prompt\nWhy; how?\n") == [("Why; how?", None, None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prompt;chosen\na;b;c\n", "3 fields, the header has 2 (line 2); quote texts that hold semicolons"),
        ('prompt,chosen\na,"b\nc,d\ne,f\n', "not CSV up to line 4: a quote is never closed"),
        ('prompt,chosen\na,"b "quoted" c"\n', "write a quote within quotes twice"),
        (f'prompt,chosen\na,"{"b" * 140_000}\n', "a quote is open, or the text is that long"),
        ("question;answer\na;b\n", "found the columns question;answer; needed are 'prompt'"),
        ("prompt,prompt\na,b\n", "names 'prompt' more than once"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        rows(tmp_path / "a.csv", text)
    assert words in str(caught.value)
