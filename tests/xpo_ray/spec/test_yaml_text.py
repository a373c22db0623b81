"""The text of a spec: numbers and texts are what they look like, else refused with line and column."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.xpo_ray.spec.test_loading import SPEC, changed, written
from xpo_ray.errors import SpecError
from xpo_ray.spec import load_spec
from xpo_ray.spec.loading import apply_override
from xpo_ray.spec.yaml_text import parse


@pytest.mark.parametrize(
    ("written_", "read"),
    [
        ("0", 0),
        ("-7", -7),
        ("0x10", 16),
        ("1_000", 1000),
        ("1.5e-5", 1.5e-5),
        ("1e-5", "1e-5"),
        ("0.5", 0.5),
        ("0o10", "0o10"),
        ("2024-01-01", "2024-01-01"),
        ("2001-12-14t21:59:43-05:00", "2001-12-14t21:59:43-05:00"),
        ("'010'", "010"),
        ("'1:30'", "1:30"),
        ("on", True),
        ("~", None),
        ("http://host:8000/v1", "http://host:8000/v1"),
        ("costs $5 or $HOME", "costs $5 or $HOME"),
        ("0.2.1", "0.2.1"),
    ],
)
def test_a_value_is_what_it_looks_like(written_: str, read: Any) -> None:
    assert parse(f"a: {written_}") == {"a": read}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("010", "010 begins with 0 and might be read in base 8"),
        ("-010", "-010 begins with 0"),
        ("0_7", "0_7 begins with 0"),
        ("08", "08 begins with 0"),
        ("!!int '010'", "010 begins with 0"),
        ("1:30", "1:30 would be read in base 60"),
        ("190:20:30.15", "would be read in base 60"),
        ("${HOME}/out", "${HOME} is not filled in"),
        ("'${HOME}/out'", "${HOME} is not filled in"),
        ("$HOME/out", "$HOME is not filled in"),
        ("/data/$USER/out", "$USER is not filled in"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor for the tag"),
    ],
)
def test_a_value_that_yaml_reads_as_another_is_refused_with_its_place(tmp_path: Path, value: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, f"name: a\ntraining:\n  batch_size: {value}\n"))
    assert "line 3, column 15: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("value", ["010", "1:30", "${HOME}/x"])
def test_an_override_is_read_by_the_same_rules(value: str) -> None:
    with pytest.raises(SpecError, match=r"--set value .* line 1, column 1: "):
        apply_override({}, f"a={value}")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("name: a\nnote: café".encode("latin-1"), "line 2, column 10: byte 0xe9 is not utf-8; save the file as UTF-8"),
        (b"a: 1\nb:\n\tc: 1\n", "line 3, column 1: .*indent by blanks and not by tabs"),
        (b"a: 1\nb: x\x07\n", r"line 2, column 5: the character U\+0007 may not stand in YAML"),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: but found another document"),
        (b'{"a": 1, // note\n "b": 2}', "line 2, column 5"),
        (b"a: *none\n", "line 1, column 4: found undefined alias"),
        (b"# nothing\n", "a spec is a mapping, got NoneType"),
    ],
)
def test_a_text_that_is_no_spec_is_refused_with_its_place(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "spec.yaml").write_bytes(content)
    with pytest.raises(SpecError, match=words):
        load_spec(tmp_path / "spec.yaml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "spec.yaml").write_bytes(yaml.safe_dump(SPEC).replace("\n", "\r\n").encode(encoding))
    assert load_spec(tmp_path / "spec.yaml").name == "tiny-selm"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("name", "no", "name: should be a text; got False; write it in quotes"),
        ("name", "007", "begins with 0"),
        ("training.batch_size", "yes", "training.batch_size: should be a number; got true"),
        ("training.batch_size", "~", "training.batch_size: should be a valid integer; got nothing"),
        ("training.batch_size", "0o10", "got '0o10'"),
        ("training.learning_rate", ".inf", "training.learning_rate: should be a finite number; got inf"),
    ],
)
def test_words_and_signs_of_yaml_are_refused_where_the_field_is_of_another_type(
    tmp_path: Path, key: str, value: str, words: str
) -> None:
    text = yaml.safe_dump(changed(key, "HERE")).replace("HERE", value)
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_date_may_be_a_name_and_a_rate_may_have_an_exponent(tmp_path: Path) -> None:
    text = (
        yaml.safe_dump(changed("training.learning_rate", "RATE"))
        .replace("RATE", "2e-5")
        .replace("tiny-selm", "2024-01-01")
    )
    spec = load_spec(written(tmp_path, text))
    assert (spec.name, spec.training.learning_rate) == ("2024-01-01", 2e-5)
