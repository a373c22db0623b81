"""From a spec file to a submission: what is left out, what is uploaded, and what a service makes of it."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.running import tiny_world, write_spec
from tests.xpo_ray.serving import served
from xpo_ray.cli import main
from xpo_ray.cli.submitting import built, changes, check_locally, pairs, raw_spec, submit_with_data, with_uploads
from xpo_ray.client import Client, Refused, calls
from xpo_ray.errors import DatasetError, SpecError, UserError


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


def test_nothing_is_uploaded_where_one_of_the_files_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("{}\n")
    source, missing = ({"kind": "files", "path": str(tmp_path / name)} for name in ("t.jsonl", "none.jsonl"))
    sent: list[str] = []

    def upload(name: str, _files: list[Path]) -> str:
        sent.append(name)
        return "ds_1"

    with pytest.raises(DatasetError, match=r"none\.jsonl"):
        with_uploads({"data": {"source": source, "evaluation": missing}}, upload)
    assert sent == []


def test_what_only_the_service_knows_is_not_asked_of_a_spec_before_it_is_sent(tmp_path: Path) -> None:
    spec = raw_spec(write_spec(tmp_path, tiny_world(tmp_path, prompts=24)))
    spec["model"] = {**{k: v for k, v in spec["model"].items() if k != "path"}, "registered": "model_1"}
    spec["data"]["source"] = {"kind": "dataset", "id": "ds_1", "limit": 3}
    before = json.dumps(spec)
    check_locally(spec)
    assert json.dumps(spec) == before
    with pytest.raises(SpecError, match=r"training\.batch_size"):
        check_locally({**spec, "training": {**spec["training"], "batch_size": 0}})


@pytest.mark.parametrize(
    ("part", "value", "refused"),
    [
        ("training", {"learning_rate": "fast"}, SpecError),
        ("judge", {"kind": "python", "function": "os:system"}, Refused),
        ("model", {"path": "/etc"}, Refused),
    ],
)
def test_a_spec_that_is_refused_leaves_no_dataset_behind(
    tmp_path: Path, part: str, value: dict[str, Any], refused: type[UserError]
) -> None:
    world = tmp_path / "world"
    world.mkdir()
    raw = {**raw_spec(write_spec(world, tiny_world(world, prompts=24))), part: value}
    with served(tmp_path, world) as service, Client(service.url, service.key) as client:
        with pytest.raises(refused):
            submit_with_data(client, built(raw, {}))
        assert list(client.each(calls.list_datasets)) == []
        assert list((service.services.storage / "datasets").glob("*")) == []


def test_a_second_file_that_is_refused_takes_the_first_one_back(tmp_path: Path) -> None:
    world = tmp_path / "world"
    world.mkdir()
    raw = raw_spec(write_spec(world, tiny_world(world, prompts=24)))
    (world / "bad.jsonl").write_text("{\n")
    raw["data"]["evaluation"] = {"kind": "files", "path": str(world / "bad.jsonl")}
    with served(tmp_path, world) as service, Client(service.url, service.key) as client:
        with pytest.raises(Refused, match="line 1"):
            submit_with_data(client, built(raw, {}))
        assert list(client.each(calls.list_datasets)) == []


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
