"""From a spec file to a submission: what is left out, what is uploaded, and what a service makes of it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import tiny_world, write_spec
from tests.xpo_ray.serving import served
from xpo_ray.cli import main
from xpo_ray.cli.submitting import changes, pairs, raw_spec, with_uploads
from xpo_ray.errors import UserError


def test_the_output_path_is_left_out_and_paths_become_absolute(tmp_path: Path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text("name: a\noutput: {path: ./out}\ndata: {source: {kind: files, path: ./t.parquet}}\n")
    raw = raw_spec(spec, ["training.epochs=2"], "b")
    source = {"kind": "files", "path": str(tmp_path / "t.parquet")}
    assert raw == {"name": "b", "data": {"source": source}, "training": {"epochs": 2}}


def test_the_same_files_are_uploaded_once_and_named_by_id(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("{}\n")
    source = {"kind": "files", "path": str(tmp_path / "t.jsonl"), "limit": 3}
    sent: list[tuple[str, list[Path]]] = []

    def upload(name: str, files: list[Path]) -> str:
        sent.append((name, files))
        return "ds_1"

    raw = with_uploads({"name": "a", "data": {"source": source, "evaluation": source, "partitions": 2}}, upload)
    named = {"kind": "dataset", "id": "ds_1", "limit": 3}
    assert raw["data"] == {"source": named, "evaluation": named, "partitions": 2}
    assert sent == [("a-source", [tmp_path / "t.jsonl"])]


def test_pairs_and_changes_are_read_and_what_is_none_is_refused() -> None:
    assert pairs(["a=b=c", "d="], "--metadata") == {"a": "b=c", "d": ""}
    assert changes(["a.b=1", "a.c=[1, 2]"]) == {"a": {"b": 1, "c": [1, 2]}}
    with pytest.raises(UserError, match="--metadata 'a'"):
        pairs(["a"], "--metadata")


def test_a_spec_is_submitted_with_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tmp_path / "world"
    world.mkdir()
    spec = write_spec(world, tiny_world(world, prompts=24))
    with served(tmp_path, world) as service:
        monkeypatch.setenv("XPO_RAY_URL", service.url)
        monkeypatch.setenv("XPO_RAY_KEY", service.key)

        def shell(*args: str) -> Any:
            monkeypatch.setattr(sys, "argv", ["xpo-ray", *args, "--json"])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code, capsys.readouterr().err
            return json.loads(capsys.readouterr().out)

        run = shell("submit", str(spec), "--upload", "--priority", "3", "--metadata", "team=a", "--name", "mine")
        assert (run["name"], run["status"], run["priority"]) == ("mine", "queued", 3)
        assert run["metadata"] == {"team": "a"}
        datasets = shell("datasets", "list")
        assert {d["name"] for d in datasets} >= {"mine-source"}
        assert shell("datasets", "preview", datasets[0]["id"], "--limit", "2")["rows"][0]["row"] == 0
        assert shell("models", "register", "base", "--path", str(world / "base"))["name"] == "base"
