"""Models over REST: read by their headers, refused where a run could not load them safely."""

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.tiny import tiny_model_folder
from xpo_ray.api.services import Services

Headers = dict[str, str]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama; no test writes into it."""
    return tiny_model_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def root(services: Services, tiny: Path, tmp_path: Path) -> Path:
    """A folder that submitters may name, with the model `tiny` in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copytree(tiny, folder / "tiny")
    services.settings = services.settings.model_copy(update={"roots": (str(folder),), "repositories": ("owner/*",)})
    return folder


def test_a_folder_is_registered_with_its_architecture_and_number_of_parameters(
    api: TestClient, submitter: Headers, reader: Headers, root: Path
) -> None:
    answer = api.post("/v1/models", headers=submitter, json={"name": "base", "path": str(root / "tiny")})
    assert answer.status_code == 201, answer.text
    made = answer.json()
    vocabulary = json.loads((root / "tiny" / "config.json").read_text())["vocab_size"]
    layer = 32 * (32 + 16 + 16 + 32) + 3 * 32 * 64 + 2 * 32
    assert made["parameters"] == 2 * vocabulary * 32 + 2 * layer + 32
    assert (made["architecture"], made["path"]) == ("LlamaForCausalLM", str(root / "tiny"))
    assert api.get(f"/v1/models/{made['id']}", headers=reader).json() == made
    assert api.get("/v1/models", headers=reader).json() == {"items": [made], "next": None}


def test_only_the_owner_or_an_admin_takes_it_off_the_list(
    api: TestClient, admin: Headers, submitter: Headers, reader: Headers, root: Path
) -> None:
    made = api.post("/v1/models", headers=admin, json={"name": "base", "path": str(root / "tiny")}).json()
    url = f"/v1/models/{made['id']}"
    assert [api.delete(url, headers=h).status_code for h in (reader, submitter, admin, admin)] == [403, 403, 204, 404]
    assert (root / "tiny" / "config.json").exists()


@pytest.mark.parametrize(
    ("missing", "added", "said"),
    [
        ("model.safetensors", "pytorch_model.bin", "no model.safetensors"),
        ("model.safetensors", None, "no weights"),
        ("config.json", None, "config.json"),
        ("tokenizer.json", None, "no tokenizer"),
    ],
)
def test_a_folder_without_a_part_is_refused(
    api: TestClient, submitter: Headers, root: Path, missing: str, added: str | None, said: str
) -> None:
    (root / "tiny" / missing).unlink()
    if added is not None:
        (root / "tiny" / added).write_bytes(b"\x80\x04N.")
    answer = api.post("/v1/models", headers=submitter, json={"name": "base", "path": str(root / "tiny")})
    assert (answer.status_code, answer.json()["code"]) == (422, "model_invalid")
    assert said in answer.json()["detail"]


def test_cut_weights_are_refused(api: TestClient, submitter: Headers, root: Path) -> None:
    weights = root / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    answer = api.post("/v1/models", headers=submitter, json={"name": "base", "path": str(root / "tiny")})
    assert answer.json()["code"] == "model_invalid"


def test_nothing_outside_the_roots_is_registered(api: TestClient, submitter: Headers, root: Path, tiny: Path) -> None:
    (root / "link").symlink_to(tiny)
    (root / "tiny" / "model.safetensors").unlink()
    (root / "tiny" / "model.safetensors").symlink_to(tiny / "model.safetensors")
    for path in (str(tiny), str(root / "link"), str(root / "tiny"), f"{root}/../x", "tiny", "/nonexistent"):
        answer = api.post("/v1/models", headers=submitter, json={"name": "base", "path": path})
        assert (answer.status_code, answer.json()["code"]) == (422, "path_not_allowed"), path


def test_hub_repositories_go_by_the_operators_list(api: TestClient, submitter: Headers, root: Path) -> None:
    post = [
        api.post("/v1/models", headers=submitter, json={"name": "m", **body})
        for body in (
            {"repository": "owner/model", "revision": "abc"},
            {"repository": "other/model"},
            {"repository": "owner/model", "path": str(root / "tiny")},
            {},
            {"path": str(root / "tiny"), "revision": "abc"},
        )
    ]
    assert [p.status_code for p in post] == [201, 422, 422, 422, 422]
    assert (post[0].json()["repository"], post[0].json()["parameters"]) == ("owner/model", None)
    assert post[1].json()["code"] == "repository_not_allowed"


def test_a_registration_that_is_sent_again_makes_one_model(
    both_databases: str, api: TestClient, submitter: Headers, root: Path
) -> None:
    keyed, body = {**submitter, "Idempotency-Key": "one"}, {"name": "base", "path": str(root / "tiny")}
    made = [api.post("/v1/models", headers=keyed, json=body) for _ in range(2)]
    assert made[0].status_code == 201, (both_databases, made[0].text)
    assert made[0].json() == made[1].json()
    assert len(api.get("/v1/models", headers=submitter).json()["items"]) == 1
    shutil.rmtree(root / "tiny")
    assert api.post("/v1/models", headers=keyed, json=body).json() == made[0].json()
    other = api.post("/v1/models", headers=keyed, json={**body, "name": "other"})
    assert other.json()["code"] == "idempotency_key_reused"
