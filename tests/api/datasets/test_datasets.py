"""Datasets over REST: what comes in is read to its last row, what is refused leaves nothing behind."""

import csv
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.clock import SettableClock
from tests.api.conftest import Headers, MakeKey
from tests.api.rows import add_run
from tests.tiny import tiny_pairs, write_parquet
from xpo_ray.api.auth import Principal
from xpo_ray.api.database.tables import Dataset
from xpo_ray.api.datasets.intake import MARK, mark, sweep
from xpo_ray.api.datasets.room import check_quota
from xpo_ray.api.problems import Refusal
from xpo_ray.api.services import Services
from xpo_ray.wire.keys import Quotas


def upload(api: TestClient, headers: Headers, *files: Path | tuple[str, bytes], name: str = "tiny") -> Any:
    parts = [f if isinstance(f, tuple) else (f.name, f.read_bytes()) for f in files]
    return api.post("/v1/datasets", headers=headers, data={"name": name}, files=[("file", part) for part in parts])


def left_over(services: Services) -> list[str]:
    folder = services.storage / "datasets"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def open_roots(services: Services, *roots: Path) -> None:
    services.settings = services.settings.model_copy(update={"roots": tuple(map(str, roots))})


def test_an_uploaded_file_is_read_reported_and_kept(
    api: TestClient, services: Services, submitter: Headers, reader: Headers, tmp_path: Path
) -> None:
    file = write_parquet(tmp_path / "train.parquet", tiny_pairs(7))
    answer = upload(api, submitter, file)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert (made["rows"], made["bytes"], made["format"]) == (7, file.stat().st_size, "ultrafeedback")
    assert {c["name"]: (c["type"], c["role"], c["missing"]) for c in made["columns"]} == {
        "prompt": ("text", "prompt", 0),
        "prompt_id": ("text", "prompt_id", 0),
        "chosen": ("messages", "chosen", 0),
        "rejected": ("messages", "rejected", 0),
    }
    assert set(made["usable_for"]) == {"selm", "iterative_dpo", "dpo", "sdpo", "xpo", "online_dpo", "custom"}
    assert made["source"] == {"kind": "files", "files": ["train.parquet"]}
    assert (services.dataset_folder(made["id"]) / "train.parquet").read_bytes() == file.read_bytes()
    assert str(services.storage) not in answer.text
    assert api.get(f"/v1/datasets/{made['id']}", headers=reader).json() == made


def test_several_files_are_one_dataset_in_their_order(api: TestClient, submitter: Headers, tmp_path: Path) -> None:
    pairs = tiny_pairs(5)
    second = ("b.jsonl", b"".join(json.dumps(p).encode() + b"\n" for p in pairs[3:]))
    made = upload(api, submitter, write_parquet(tmp_path / "z.parquet", pairs[:3]), second).json()
    rows = api.get(f"/v1/datasets/{made['id']}/preview?limit=50", headers=submitter).json()["rows"]
    assert made["rows"] == 5
    assert [json.loads(r["raw"]["chosen"])[0]["content"] for r in rows] == [p["prompt"] for p in pairs]
    assert [r["prompt"] for r in rows] == [[{"role": "user", "content": p["prompt"]}] for p in pairs]
    assert [r["chosen"] for r in rows] == [p["chosen"][1]["content"] for p in pairs]


def test_prompts_alone_are_usable_by_those_who_draw_both(api: TestClient, submitter: Headers, tmp_path: Path) -> None:
    with (tmp_path / "p.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "note"], ["Why?", "x"], ["How, then?", ""]])
    made = upload(api, submitter, tmp_path / "p.csv").json()
    assert (made["format"], made["rows"], made["usable_for"]) == ("prompts", 2, ["xpo", "online_dpo", "custom"])
    assert [(c["name"], c["role"], c["missing"]) for c in made["columns"]] == [
        ("prompt", "prompt", 0),
        ("note", "unused", 1),
    ]


def test_columns_that_are_not_recognised_are_reported_and_usable_for_nothing(
    api: TestClient, submitter: Headers
) -> None:
    made = upload(api, submitter, ("q.jsonl", b'{"question": "Why?", "n": 1}\n')).json()
    assert (made["format"], made["rows"], made["usable_for"]) == (None, 1, [])
    assert {c["role"] for c in made["columns"]} == {"unused"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.jsonl", b'{"prompt": "a"}\n{"prompt": \n', "bad.jsonl: line 2"),
        ("gap.jsonl", b'{"prompt": "a"}\n{"prompt": ""}\n', "gap.jsonl, row 1 (counted from 0), column 'prompt'"),
        ("null.jsonl", b"null\n", "null.jsonl: line 1 is not a JSON object"),
        ("cut.parquet", b"PAR1 and no more", "cut.parquet"),
        ("empty.csv", b"", "empty.csv: no rows"),
        ("model.bin", b"x", "model.bin: unknown extension '.bin'"),
        ("../../up.jsonl", b"{", "up.jsonl: line 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name_and_row_and_nothing_is_left(
    api: TestClient, services: Services, submitter: Headers, name: str, content: bytes, said: str
) -> None:
    answer = upload(api, submitter, (name, content))
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert said in answer.json()["detail"]
    assert str(services.storage) not in answer.text
    assert left_over(services) == []


def test_a_body_that_is_no_upload_is_refused(api: TestClient, services: Services, submitter: Headers) -> None:
    url = "/v1/datasets"
    cut = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"prompt'
    multipart = submitter | {"Content-Type": "multipart/form-data; boundary=x"}
    file = ("file", ("a.jsonl", b'{"prompt": "a"}\n'))
    assert api.post(url, headers=submitter, json={}).status_code == 415
    assert api.post(url, headers=multipart, content=cut).json()["code"] == "upload_cut"
    assert api.post(url, headers=multipart, content=b"nonsense").json()["code"] == "not_multipart"
    assert api.post(url, headers=submitter, files=[file]).json()["field"] == "name"
    assert api.post(url, headers=submitter, data={"name": "../x"}, files=[file]).json()["field"] == "name"
    assert api.post(url, headers=submitter, data={"name": "x", "y": "z"}, files=[file]).json()["field"] == "y"
    assert api.post(url, headers=submitter, data={"name": "x"}, files=[file, file]).json()["field"] == "file"
    assert api.post(url, headers=submitter, data={"name": "x"}, files=[("other", file[1])]).status_code == 422
    assert left_over(services) == []


def test_a_reader_may_not_upload(api: TestClient, reader: Headers, services: Services) -> None:
    assert upload(api, reader, ("a.jsonl", b'{"prompt": "a"}\n')).status_code == 403
    assert left_over(services) == []


def test_a_full_disk_is_told_before_anything_is_written(
    api: TestClient, services: Services, submitter: Headers
) -> None:
    services.settings = services.settings.model_copy(update={"disk_floor_mib": 2.0**40})
    answer = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n'))
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert left_over(services) == []


def test_quotas_count_datasets_and_run_folders(api: TestClient, services: Services, submitter: Headers) -> None:
    made = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n')).json()
    add_run(services, "run_a", owner=made["owner"])
    services.run_folder("run_a").mkdir(parents=True)
    (services.run_folder("run_a") / "big").write_bytes(bytes(2**20))
    quota = 1.5 / 1024
    caller = Principal(made["owner"], "x", frozenset({"submit"}), Quotas(storage_gib=quota), "key")
    check_quota(services, caller, 2**19 - 100)
    with pytest.raises(Refusal, match="the quota of this key") as refused:
        check_quota(services, caller, 2**19)
    assert refused.value.status == 429


def test_registered_files_stay_where_they_are(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    root = tmp_path / "open"
    root.mkdir()
    file = write_parquet(root / "train.parquet", tiny_pairs(3))
    open_roots(services, root)
    body = {"name": "mine", "source": {"kind": "files", "path": str(root)}}
    made = api.post("/v1/datasets/register", headers=submitter, json=body)
    assert made.status_code == 201, made.text
    assert (made.json()["kind"], made.json()["rows"]) == ("files", 3)
    assert made.json()["source"] == {"kind": "files", "path": str(root)}
    assert len(api.get(f"/v1/datasets/{made.json()['id']}/preview", headers=submitter).json()["rows"]) == 3
    assert api.delete(f"/v1/datasets/{made.json()['id']}", headers=submitter).status_code == 204
    assert file.exists()
    assert left_over(services) == []


def test_what_lies_outside_the_roots_cannot_be_registered_by_any_spelling(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    root, outside = tmp_path / "open", tmp_path / "closed"
    root.mkdir()
    outside.mkdir()
    secret = write_parquet(outside / "secret.parquet", tiny_pairs(2))
    (root / "link.parquet").symlink_to(secret)
    (root / "folder").symlink_to(outside)
    open_roots(services, root)
    there = [str(secret), f"{root}/../closed/secret.parquet", f"{root}/link.parquet", f"{root}/folder/secret.parquet"]
    there += [f"{root}/*.parquet", f"{root}/f*/*.parquet", str(root), "open", f"{outside}/nothing.parquet"]
    for path in there:
        body = {"name": "x", "source": {"kind": "files", "path": path}}
        answer = api.post("/v1/datasets/register", headers=submitter, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "path_not_allowed"), path


def test_a_hub_repository_needs_to_be_on_the_list(api: TestClient, submitter: Headers) -> None:
    body = {"name": "x", "source": {"kind": "hub", "name": "owner/name"}}
    answer = api.post("/v1/datasets/register", headers=submitter, json=body)
    assert answer.json()["code"] == "repository_not_allowed"


def test_a_dataset_that_an_unfinished_run_reads_stays(api: TestClient, services: Services, submitter: Headers) -> None:
    made = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n')).json()
    path = str(services.dataset_folder(made["id"]) / "a.jsonl")
    source = {"kind": "files", "path": [path], "limit": 5}
    add_run(services, "run_a", owner=made["owner"], status="paused", spec={"data": {"source": source}})
    refused = api.delete(f"/v1/datasets/{made['id']}", headers=submitter)
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")
    assert "run_a" in refused.json()["detail"]
    add_run(services, "run_b", owner=made["owner"], status="failed", spec={"data": {"source": source}})
    other = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n'), name="other").json()
    assert api.delete(f"/v1/datasets/{other['id']}", headers=submitter).status_code == 204
    assert left_over(services) == [made["id"]]


def test_the_list_is_paged_newest_first(
    api: TestClient, submitter: Headers, reader: Headers, clock: SettableClock
) -> None:
    ids = []
    for i in range(3):
        ids.append(upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n'), name=f"d{i}").json()["id"])
        clock.advance(seconds=1)
    first = api.get("/v1/datasets?limit=2", headers=reader).json()
    second = api.get(f"/v1/datasets?limit=2&after={first['next']}", headers=reader).json()
    assert [d["id"] for d in first["items"] + second["items"]] == ids[::-1]
    assert second["next"] is None
    assert api.get("/v1/datasets?after=WyJ4IiwgInkiXQ", headers=reader).json()["code"] == "cursor_invalid"


def aged(path: Path, services: Services, hours: float = 2.0) -> None:
    at = services.clock().timestamp() - hours * 3600
    os.utime(path, (at, at))


def left_by_a_crash(services: Services, name: str, *files: str, hours: float) -> None:
    folder = services.storage / "datasets" / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file).write_bytes(b"x")
        aged(folder / file, services, hours)
    aged(folder, services, hours)


def test_old_folders_that_a_crash_left_without_a_row_are_swept(
    api: TestClient, services: Services, submitter: Headers
) -> None:
    made = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n')).json()
    for path in (services.dataset_folder(made["id"]), *services.dataset_folder(made["id"]).iterdir()):
        aged(path, services)
    left_by_a_crash(services, ".incoming-ds_x", "a.parquet", hours=2)
    left_by_a_crash(services, "ds_norow", "a.parquet", MARK, hours=2)
    assert sweep(services) == [".incoming-ds_x", "ds_norow"]
    assert left_over(services) == [made["id"]]


def test_an_upload_under_way_elsewhere_and_datasets_of_another_database_are_not_swept(services: Services) -> None:
    left_by_a_crash(services, ".incoming-ds_young", hours=0.9)
    left_by_a_crash(services, ".incoming-ds_growing", "a.parquet", hours=2)
    aged(services.storage / "datasets" / ".incoming-ds_growing" / "a.parquet", services, 0.1)
    left_by_a_crash(services, "ds_just_placed", "a.parquet", MARK, hours=0.1)
    left_by_a_crash(services, "ds_of_another_database", "a.parquet", "preview.json", hours=1000)
    assert sweep(services) == []
    assert len(left_over(services)) == 4


def test_a_dataset_that_is_there_holds_no_mark_and_one_whose_deletion_was_cut_off_is_swept(
    api: TestClient, services: Services, submitter: Headers
) -> None:
    made = upload(api, submitter, ("a.jsonl", b'{"prompt": "a"}\n')).json()
    folder = services.dataset_folder(made["id"])
    assert sorted(p.name for p in folder.iterdir()) == ["a.jsonl", "preview.json"]
    mark(services, made["id"])
    with services.database.write() as session:
        session.delete(session.get_one(Dataset, made["id"]))
    for path in (*folder.iterdir(), folder):
        aged(path, services)
    assert sweep(services) == [made["id"]]


ROWS = b'{"prompt": "a"}\n'


def test_an_upload_that_is_sent_again_makes_one_dataset(
    both_databases: str, api: TestClient, services: Services, submitter: Headers
) -> None:
    keyed = {**submitter, "Idempotency-Key": "one"}
    first = upload(api, keyed, ("a.jsonl", ROWS))
    file, name = (b"Content-Disposition: form-data; name=" + n for n in (b'"file"; filename="a.jsonl"', b'"name"'))
    parts = [b"--other", file, b"", ROWS, b"--other", name, b"", b"tiny", b"--other--", b""]
    cut_otherwise = b"\r\n".join(parts)
    multipart = {**keyed, "Content-Type": "multipart/form-data; boundary=other"}
    again = [upload(api, keyed, ("a.jsonl", ROWS)), api.post("/v1/datasets", headers=multipart, content=cut_otherwise)]
    assert first.status_code == 201, (both_databases, first.text)
    assert [(a.status_code, a.json()) for a in again] == [(201, first.json())] * 2
    assert [a.headers.get("idempotent-replayed") for a in (first, *again)] == [None, "true", "true"]
    assert left_over(services) == [first.json()["id"]]


@pytest.mark.parametrize(
    ("files", "name"),
    [
        ([("a.jsonl", b'{"prompt": "b"}\n')], "tiny"),
        ([("b.jsonl", ROWS)], "tiny"),
        ([("a.jsonl", ROWS)], "other"),
        ([("a.jsonl", ROWS), ("b.jsonl", ROWS)], "tiny"),
    ],
)
def test_another_upload_under_the_same_key_is_refused(
    api: TestClient, services: Services, submitter: Headers, files: list[tuple[str, bytes]], name: str
) -> None:
    keyed = {**submitter, "Idempotency-Key": "one"}
    made = upload(api, keyed, ("a.jsonl", ROWS)).json()
    answer = upload(api, keyed, *files, name=name)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert left_over(services) == [made["id"]]


def test_a_refused_upload_leaves_its_key_free(api: TestClient, submitter: Headers) -> None:
    keyed = {**submitter, "Idempotency-Key": "one"}
    assert upload(api, keyed, ("a.jsonl", b"{")).status_code == 422
    assert upload(api, keyed, ("a.jsonl", ROWS)).status_code == 201


def test_what_is_sent_again_is_answered_also_where_the_quota_is_used_up(api: TestClient, make_headers: MakeKey) -> None:
    keyed = {**make_headers("submit", quotas=Quotas(storage_gib=1.2 / 1024)), "Idempotency-Key": "one"}
    rows = b'{"prompt": "' + b"a" * 2**20 + b'"}\n'
    first = upload(api, keyed, ("a.jsonl", rows))
    assert (first.status_code, upload(api, keyed, ("a.jsonl", rows)).json()) == (201, first.json())
    other = {**keyed, "Idempotency-Key": "two"}
    assert upload(api, other, ("a.jsonl", rows)).json()["code"] == "quota_exceeded"


def test_twins_of_an_upload_that_come_at_once_make_one_dataset(
    both_databases: str, api: TestClient, services: Services, submitter: Headers
) -> None:
    keyed, together, answers = {**submitter, "Idempotency-Key": "twin"}, threading.Barrier(3), list[tuple[int, str]]()

    def ask() -> None:
        together.wait(30)
        answer = upload(api, keyed, ("a.jsonl", ROWS))
        answers.append((answer.status_code, answer.text))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (len(answers), len(set(answers)), answers[0][0]) == (3, 1, 201), (both_databases, answers)
    assert left_over(services) == [json.loads(answers[0][1])["id"]]


def test_a_registration_that_is_sent_again_makes_one_dataset(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    (tmp_path / "open").mkdir()
    write_parquet(tmp_path / "open" / "train.parquet", tiny_pairs(3))
    open_roots(services, tmp_path / "open")
    body = {"name": "mine", "source": {"kind": "files", "path": str(tmp_path / "open")}}
    keyed = {**submitter, "Idempotency-Key": "one"}
    made = [api.post("/v1/datasets/register", headers=keyed, json=body) for _ in range(2)]
    assert made[0].status_code == 201, made[0].text
    assert made[0].json() == made[1].json()
    assert left_over(services) == [made[0].json()["id"]]
    other = api.post("/v1/datasets/register", headers=keyed, json={**body, "name": "other"})
    assert other.json()["code"] == "idempotency_key_reused"
