"""What `validate` tells of the data: as plain data and in words."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.running import tiny_world, write_spec
from tests.tiny import tiny_pairs, write_parquet
from tests.xpo_ray.cli.test_app import run


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs, one of which stands twice, with a column that nobody reads; one of 3 held-out prompts is trained on."""
    folder = tmp_path_factory.mktemp("world")
    raw: dict[str, Any] = tiny_world(folder)
    rows = tiny_pairs(23)
    write_parquet(folder / "train.parquet", [{**row, "source": "web"} for row in [*rows, rows[4]]])
    write_parquet(folder / "test.parquet", [*tiny_pairs(25)[23:], rows[5]])
    raw["data"] |= {"evaluation": {"kind": "files", "path": "./test.parquet"}, "partitions": 1}
    return write_spec(folder, raw)


def test_all_of_it_is_there_as_plain_data(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, "validate", spec, "--deep", "--json")
    assert code == 0, err
    data = json.loads(out)["data"]
    assert data["source"]["files"] == [str(spec.parent / "train.parquet")]
    assert (set(data["source"]["columns"]), data["source"]["columns_not_read"]) == (
        {"prompt", "chosen", "rejected", "prompt_id"},
        ["source"],
    )
    equal = data["equal_prompts"]
    assert (equal["count"], equal["first"]["row"], equal["first"]["equal_to_row"]) == (1, 23, 4)
    held_out = data["held_out_prompts_trained_on"]
    assert (held_out["count"], held_out["of"], held_out["first"]["row"], held_out["first"]["equal_to_row"]) == (
        1,
        3,
        2,
        5,
    )
    assert "case 0" in data["first"]["prompt"]["text"]
    for shown in data["first"].values():
        assert "".join(text for _, text in shown["tokens"]) == shown["text"]


def test_the_same_is_told_in_words_token_by_token_where_asked(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, "validate", spec, "--deep")
    assert code == 0, err
    for words in (
        "rows: 24 read, 24 kept",
        "columns that are not read: source",
        "1 of 24 prompts are equal to an earlier one; the first is row 23, equal to row",
        "1 of 3 held-out prompts are also trained on; the first is row 2",
        "the first chosen, as the model will see it:",
    ):
        assert words in out
    code, tokens, err = run(capsys, monkeypatch, "validate", spec, "--deep", "--show-tokens")
    assert code == 0, err
    assert len(tokens.splitlines()) > len(out.splitlines()) + 10


def test_without_reading_all_rows_the_columns_are_told_and_tokens_are_refused(
    spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "validate", spec, "--json")
    assert (code, set(json.loads(out)["data"])) == (0, {"source", "evaluation"})
    code, _, err = run(capsys, monkeypatch, "validate", spec, "--set", "data.columns.rejected=worse")
    assert (code, "'chosen' and 'worse'" in err) == (2, True)
    code, _, err = run(capsys, monkeypatch, "validate", spec, "--show-tokens")
    assert (code, "give both" in err) == (2, True)
