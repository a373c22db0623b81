"""What a real run leaves, over REST: checkpoints, samples, report, logs; by id, whole, and nothing else of the disk."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from tests.api.artifacts.conftest import FinishedRun
from xpo_ray.api.artifacts.opening import open_below
from xpo_ray.api.services import Services
from xpo_ray.storage import LocalStorage

pytestmark = pytest.mark.ray
Headers = dict[str, str]


def get(api: TestClient, key: Headers, run: FinishedRun, path: str, **more: Any) -> Any:
    return api.get(f"/v1/runs/{run.id}/{path}", headers=key | more.pop("headers", {}), **more)


def weights_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return next(f for f in checkpoint["files"] if f["name"] == "model/model.safetensors")


def border(api: TestClient, headers: Headers, run: FinishedRun, iteration: int) -> dict[str, Any]:
    listed = get(api, headers, run, "checkpoints").json()
    found: dict[str, Any] = next(c for c in listed if c["iteration"] == iteration and c["step"] == 0)
    return found


def test_checkpoints_are_listed_with_metrics_and_what_became_of_them(
    api: TestClient, reader: Headers, finished: FinishedRun
) -> None:
    listed = get(api, reader, finished, "checkpoints").json()
    published = LocalStorage(finished.root, 1).checkpoints()
    assert [(c["iteration"], c["step"]) for c in listed] == [(c.iteration, c.step) for c in published]
    assert [c["total_steps"] for c in listed] == sorted(c["total_steps"] for c in listed)
    borders = [c for c in listed if c["step"] == 0]
    assert [c["selected"] for c in borders] == [False, True]
    assert all(c["kept"] and c["metrics"]["reward"] is not None for c in borders)
    assert all(c["size"] == sum(f["size"] for f in c["files"]) for c in listed)
    assert len({c["id"] for c in listed}) == len(listed)
    assert str(finished.root) not in get(api, reader, finished, "checkpoints").text


def test_a_file_is_downloaded_whole_and_in_parts(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    checkpoint = border(api, reader, finished, 2)
    file = weights_of(checkpoint)
    path = f"checkpoints/{checkpoint['id']}/files/{file['id']}"
    whole = get(api, reader, finished, path)
    assert (len(whole.content), hashlib.sha256(whole.content).hexdigest()) == (file["size"], file["sha256"])
    assert whole.headers["etag"] == f'"{file["sha256"]}"'
    assert whole.headers["content-disposition"].startswith('attachment; filename="model.safetensors"')
    assert whole.headers["x-content-type-options"] == "nosniff"
    parts = [get(api, reader, finished, path, headers={"Range": r}) for r in ("bytes=0-99", "bytes=100-", "bytes=-7")]
    assert [p.status_code for p in parts] == [206] * 3
    assert parts[0].content + parts[1].content == whole.content
    assert parts[2].content == whole.content[-7:]
    assert parts[0].headers["content-range"] == f"bytes 0-99/{file['size']}"


def test_odd_ranges_and_conditions_follow_the_rules(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    checkpoint = border(api, reader, finished, 1)
    file = weights_of(checkpoint)
    path = f"checkpoints/{checkpoint['id']}/files/{file['id']}"
    cases = {
        "bytes=5-2": 200,
        "bytes=0-1,4-5": 200,
        "lines=1-2": 200,
        "bytes=-": 200,
        f"bytes={file['size']}-": 416,
        f"bytes=0-{10 * file['size']}": 206,
    }
    got = {asked: get(api, reader, finished, path, headers={"Range": asked}).status_code for asked in cases}
    assert got == cases
    tag = f'"{file["sha256"]}"'
    assert get(api, reader, finished, path, headers={"If-None-Match": tag}).status_code == 304
    stale = {"Range": "bytes=0-9", "If-Range": '"another"'}
    assert get(api, reader, finished, path, headers=stale).status_code == 200


def test_the_archive_is_a_tar_of_the_model_with_its_length_known(
    api: TestClient, reader: Headers, finished: FinishedRun
) -> None:
    checkpoint = border(api, reader, finished, 2)
    answer = get(api, reader, finished, f"checkpoints/{checkpoint['id']}/archive")
    assert answer.headers["content-length"] == str(len(answer.content))
    assert 'filename="tiny-iteration-2.tar"' in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {m.name: (archive.extractfile(m) or io.BytesIO()).read() for m in archive}
    model = {
        f["name"].removeprefix("model/"): f["sha256"] for f in checkpoint["files"] if f["name"].startswith("model/")
    }
    assert {n.removeprefix("tiny-iteration-2/"): hashlib.sha256(b).hexdigest() for n, b in found.items()} == model


def test_an_altered_a_freed_and_a_linked_file_are_refused(
    api: TestClient, reader: Headers, finished: FinishedRun, tmp_path: Path
) -> None:
    first, second = border(api, reader, finished, 1), border(api, reader, finished, 2)
    stored = {c.iteration: finished.root / c.path for c in LocalStorage(finished.root, 1).checkpoints() if c.step == 0}
    weights = stored[1] / "model" / "model.safetensors"
    path = f"checkpoints/{first['id']}/files/{weights_of(first)['id']}"
    assert get(api, reader, finished, path).status_code == 200
    good = weights.read_bytes()
    weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert get(api, reader, finished, path).json()["code"] == "artifact_corrupt"
    assert get(api, reader, finished, f"checkpoints/{first['id']}/archive").status_code == 410
    (tmp_path / "same").write_bytes(good)
    weights.unlink()
    weights.symlink_to(tmp_path / "same")
    assert get(api, reader, finished, path).json()["code"] == "artifact_gone"
    storage = LocalStorage(finished.root, 1)
    storage.drop(next(c for c in storage.checkpoints() if c.iteration == 2 and c.step == 0))
    gone = get(api, reader, finished, f"checkpoints/{second['id']}/archive")
    assert (gone.status_code, gone.json()["code"]) == (410, "artifact_gone")
    assert border(api, reader, finished, 2)["kept"] is False


@pytest.mark.parametrize("made_up", ["ckpt_0", "..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "iteration-0001-step-000000"])
def test_no_path_opens_a_file(api: TestClient, reader: Headers, finished: FinishedRun, made_up: str) -> None:
    checkpoint = border(api, reader, finished, 1)["id"]
    for path in (f"checkpoints/{made_up}/archive", f"checkpoints/{checkpoint}/files/{made_up}"):
        assert get(api, reader, finished, path).status_code == 404


def test_only_regular_files_below_a_folder_are_opened(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("x")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    with open_below(tmp_path, "in/file") as file:
        assert file.read() == b"x"
    for path in ("in", "in/none", "in/../in/file", "in/up/in/file", "..", "/etc/passwd", "in/up"):
        with pytest.raises(OSError, match=r".*"):
            open_below(tmp_path, path)


def test_adopted_checkpoints_keep_their_ids_in_the_next_attempt(
    api: TestClient, reader: Headers, finished: FinishedRun
) -> None:
    before = get(api, reader, finished, "checkpoints").json()
    samples = get(api, reader, finished, "samples", params={"kind": "training"}).json()
    identity = LocalStorage(finished.root, 1)
    assert identity.checkpoints()
    second = finished.root / "attempts" / "0002"
    second.mkdir()

    (second / "adopted.json").write_text(json.dumps(identity.visible()))
    assert get(api, reader, finished, "checkpoints").json() == before
    assert get(api, reader, finished, "samples", params={"kind": "training"}).json() == samples


def pages(api: TestClient, headers: Headers, run: FinishedRun, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = get(api, headers, run, "samples", params={**query, **after}).json()
        found += page["items"]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


def test_training_samples_are_those_that_were_committed(
    api: TestClient, reader: Headers, finished: FinishedRun
) -> None:
    found = pages(api, reader, finished, kind="training", limit=5)
    files = sorted(finished.root.glob("attempts/0001/tables/iteration-*/preferences/*.parquet"))
    files = sorted(files, key=lambda p: (p.parts[-3], p.name))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len(found) == len(rows) == 24
    for sample, row in zip(found, rows, strict=True):
        assert (sample["row"], sample["prompt"]) == (row["row"], row["prompt"])
        assert [c["text"] for c in sample["candidates"]] == [c["text"] for c in row["candidates"]]
        assert [c["score"] for c in sample["candidates"]] == row["judgement"]["scores"]
        assert [c["tokens"] for c in sample["candidates"]] == [len(c["ids"]) for c in row["candidates"]]
        preference = row["preference"]
        if preference["outcome"] == "pair":
            assert sample["candidates"][preference["chosen"]]["role"] == "chosen"
            assert sample["candidates"][preference["rejected"]]["role"] == "rejected"
            assert sample["note"] is None
        else:
            assert sample["note"].startswith(preference["outcome"])
        assert [k for k, c in enumerate(sample["candidates"]) if c["comparator"]] == preference["comparators"]


def test_held_out_samples_stand_beside_those_of_the_base_and_of_the_iteration_before(
    api: TestClient, reader: Headers, finished: FinishedRun
) -> None:
    by_iteration = [pages(api, reader, finished, kind="held_out", iteration=t, limit=3) for t in range(3)]
    assert [len(found) for found in by_iteration] == [8, 8, 8]
    origins = [[c["origin"] for c in found[0]["candidates"]] for found in by_iteration]
    assert origins == [["base"], ["policy", "base"], ["policy", "base", "previous"]]
    for base, first, second in zip(*by_iteration, strict=True):
        assert base["row"] == first["row"] == second["row"]
        assert second["candidates"][1]["text"] == base["candidates"][0]["text"]
        assert second["candidates"][2]["text"] == first["candidates"][0]["text"]
        assert second["candidates"][0]["score"] is not None
    assert pages(api, reader, finished) == [s for found in by_iteration for s in found]


def test_unknown_queries_and_cursors_are_refused(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    bad = [{"kind": "all"}, {"limit": 0}, {"limit": 201}, {"after": "x"}, {"iteration": -1}, {"page": 2}]
    assert [get(api, reader, finished, "samples", params=q).status_code for q in bad] == [422] * len(bad)


def test_the_report_comes_in_a_sandbox_of_its_own(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    answer = get(api, reader, finished, "report")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-scripts" in policy
    assert "'sha256-" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "tiny" in answer.text


def test_a_report_made_now_is_kept_for_some_seconds(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    first = get(api, reader, finished, "report").text
    (finished.root / "attempts" / "0001" / "attempt.json").rename(finished.root / "moved.json")
    assert get(api, reader, finished, "report").text == first
    (finished.root / "report-live.html").unlink()
    early = get(api, reader, finished, "report")
    assert (early.status_code, early.json()["code"]) == (409, "report_not_ready")


def test_logs_come_in_parts_that_join_to_the_whole(api: TestClient, reader: Headers, finished: FinishedRun) -> None:
    text = "".join(f"zeile {i}: π θ €\n" for i in range(40)) + "Traceback (most recent call last):\n"
    (finished.root / "attempts" / "0001" / "driver.log").write_text(text)
    joined, offset = b"", 0
    for _ in range(200):
        part = get(api, reader, finished, "logs", params={"after": offset, "limit": 17})
        part.content.decode()
        joined, offset = joined + part.content, int(part.headers["x-next-offset"])
        if offset == int(part.headers["x-log-size"]):
            break
    assert joined.decode() == text
    assert part.headers["content-type"] == "text/plain; charset=utf-8"
    assert get(api, reader, finished, "logs", params={"attempt": 2}).status_code == 404
    assert get(api, reader, finished, "logs", params={"after": offset}).content == b""


def test_runs_that_are_not_there_have_nothing(api: TestClient, reader: Headers, services: Services) -> None:
    assert services
    for path in ("samples", "checkpoints", "report", "logs", "checkpoints/x/archive", "checkpoints/x/files/y"):
        assert api.get(f"/v1/runs/run_none/{path}", headers=reader).json()["code"] == "run_not_found"
