"""`xpo-ray export` against the real service: sums, cuts, folders that hold something else, iterations that are not there."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.published import publish
from tests.api.rows import add_attempt, add_run
from tests.xpo_ray.client.front import Front
from tests.xpo_ray.serving import Served, served
from xpo_ray.cli import main
from xpo_ray.client import Client, calls
from xpo_ray.storage import LocalStorage

RUN = "run_done"
Export = Callable[..., tuple[int, str, str]]
Models = dict[int, dict[str, bytes]]


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def service(tmp_path: Path, front: Front, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with served(tmp_path, before=front.before) as running:
        monkeypatch.setenv("XPO_RAY_URL", running.url)
        monkeypatch.setenv("XPO_RAY_KEY", running.key)
        monkeypatch.setenv("COLUMNS", "200")
        yield running


@pytest.fixture
def models(service: Served) -> Models:
    """What a run of three iterations published; the second is selected."""
    result = {"selected_iteration": 2}
    add_run(service.services, RUN, service.key_id, status="succeeded", attempt=1, result=result)
    add_attempt(service.services, RUN, 1)
    return {n: publish(service.services.run_folder(RUN), n, size=200_000) for n in (1, 2, 3)}


@pytest.fixture
def export(models: Models, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Export:
    assert models

    def run(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["xpo-ray", "export", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_selected_or_the_named_iteration_comes_with_the_sums_that_were_announced(
    service: Served, export: Export, models: Models, tmp_path: Path
) -> None:
    code, out, err = export(RUN, "--iteration", 3, "--to", tmp_path / "third")
    assert (code, f"model of iteration 3: {tmp_path / 'third'}" in out) == (0, True), err
    assert files_of(tmp_path / "third") == models[3]
    code, out, err = export(RUN, "--to", tmp_path / "best", "--json")
    assert (code, json.loads(out)["iteration"]) == (0, 2), err
    assert files_of(tmp_path / "best") == models[2]
    with Client(service.url, service.key) as client:
        announced = {c.iteration: c.files for c in client.do(calls.run_checkpoints(RUN))}[3]
    sums = {f"model/{name}": hashlib.sha256(data).hexdigest() for name, data in files_of(tmp_path / "third").items()}
    assert sums == {f.name: f.sha256 for f in announced if f.name.startswith("model/")}


def test_after_a_cut_the_same_command_goes_on_where_it_stopped(
    export: Export, models: Models, front: Front, tmp_path: Path
) -> None:
    """As if it had been killed: one file is whole, of another there is a part."""
    folder = tmp_path / "to"
    assert export(RUN, "--iteration", 1, "--to", folder)[0] == 0
    weights = folder / "model.safetensors"
    sha256 = hashlib.sha256(models[1]["model.safetensors"]).hexdigest()
    weights.with_name(f"{weights.name}.{sha256[:12]}.part").write_bytes(models[1]["model.safetensors"][:70_000])
    weights.unlink()
    shutil.rmtree(folder / "tokenizer")
    front.seen.clear()
    code, _, err = export(RUN, "--iteration", 1, "--to", folder)
    assert code == 0, err
    assert files_of(folder) == models[1]
    fetched = [each.headers.get("range") for each in front.seen if "/files/" in each.path]
    assert sorted(map(str, fetched)) == ["None", "bytes=70000-"], "the whole file was not asked for again"


def test_a_part_that_was_damaged_is_thrown_away_and_said(export: Export, models: Models, tmp_path: Path) -> None:
    folder = tmp_path / "to"
    folder.mkdir()
    sha256 = hashlib.sha256(models[1]["model.safetensors"]).hexdigest()
    (folder / f"model.safetensors.{sha256[:12]}.part").write_bytes(b"x" * 1000)
    code, _, err = export(RUN, "--iteration", 1, "--to", folder)
    assert (code, "sha256; download it again" in err) == (1, True), err
    assert not (folder / "model.safetensors").exists()
    assert export(RUN, "--iteration", 1, "--to", folder)[0] == 0
    assert files_of(folder) == models[1]


@pytest.mark.parametrize("name", ["notes.txt", "model.safetensors", "tokenizer/old.txt"])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(
    export: Export, front: Front, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "to"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("mine")
    code, _, err = export(RUN, "--iteration", 2, "--to", folder)
    assert code == 2
    assert f"holds {name}, which is not of this model; name a new or an empty folder" in err
    assert files_of(folder) == {name: b"mine"}
    assert not [each for each in front.seen if "/files/" in each.path]


def test_another_iteration_is_not_laid_over_the_first(export: Export, models: Models, tmp_path: Path) -> None:
    assert export(RUN, "--iteration", 1, "--to", tmp_path / "to")[0] == 0
    code, _, err = export(RUN, "--iteration", 2, "--to", tmp_path / "to")
    assert (code, "model.safetensors, which is not of this model" in err) == (2, True), err
    assert files_of(tmp_path / "to") == models[1]


def test_an_iteration_without_a_model_is_an_error_that_names_those_with_one(
    service: Served, export: Export, tmp_path: Path
) -> None:
    code, _, err = export(RUN, "--iteration", 4, "--to", tmp_path / "to")
    assert (code, "--iteration 4: no such checkpoint; published are 1, 2, 3" in err) == (2, True), err
    storage = LocalStorage(service.services.run_folder(RUN), 1)
    storage.drop(storage.checkpoints()[0])
    code, _, err = export(RUN, "--iteration", 1, "--to", tmp_path / "to")
    assert (code, "retention has freed its files; kept are 2, 3" in err) == (2, True), err
    add_run(service.services, "run_new", service.key_id, status="running")
    code, _, err = export("run_new", "--to", tmp_path / "to")
    assert (code, "is running and has no result yet; name an --iteration" in err) == (2, True), err
    assert export("run_none", "--to", tmp_path / "to")[0] == 2
    assert not (tmp_path / "to").exists()


def test_a_place_that_cannot_be_written_is_said_in_one_line(export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = export(RUN, "--to", tmp_path / "file")
    assert (code, "is a file; name a folder" in err) == (2, True), err
    code, _, err = export(RUN, "--to", tmp_path / "file" / "below")
    assert (code, "Not a directory" in err, "Traceback" in err) == (2, True, False), err
