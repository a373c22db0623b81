"""The page on formats: each of its examples is read."""

import re
from pathlib import Path

import pytest

from tests.xpo_ray.test_datasets import read

PAGE = Path(__file__).parents[3] / "docs/data-formats.md"
EXAMPLES = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_an_example_is_read_as_the_page_says(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    examples = read(tmp_path / name, needs_pairs=name != "prompts.jsonl")
    assert len(examples) == (2 if name in ("messages.jsonl", "prompts.jsonl") else 1)
    assert all(e.prompt[-1]["role"] == "user" for e in examples)
    assert all((e.chosen is None) == (name == "prompts.jsonl") for e in examples)


def test_the_page_shows_every_form() -> None:
    assert len(EXAMPLES) == 10
