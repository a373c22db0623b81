"""What the service refuses because it certainly cannot fit: on its own machine, or on the cluster that it was told of."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Headers
from tests.tiny import tiny_model_folder, tiny_pairs, write_parquet
from tests.xpo_ray.plan.test_shapes import LLAMA_3_8B, config_folder
from xpo_ray.api.cluster.capacity import Totals
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    files = tmp_path / "files"
    tiny_model_folder(files / "small")
    (files / "large").mkdir()
    config_folder(files / "large", LLAMA_3_8B | {"num_hidden_layers": 3200})  # 704 B: more than any machine has
    write_parquet(files / "train.parquet", tiny_pairs(70))
    return settings.model_copy(update={"roots": (str(files),), "cluster_gpus": 0})


def submission(tmp_path: Path, model: str) -> dict[str, Any]:
    files = tmp_path / "files"
    source = {"kind": "files", "path": str(files / "train.parquet")}
    return {
        "spec": {"model": {"path": str(files / model)}, "data": {"source": source}, "algorithm": {"kind": "dpo"}},
    }


def test_a_run_that_no_machine_holds_is_refused_with_its_parts(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    services.settings = services.settings.model_copy(update={"ray_address": None})
    for path in ("/v1/runs", "/v1/runs/validate"):
        refused = api.post(path, json=submission(tmp_path, "large"), headers=submitter)
        assert (refused.status_code, refused.json()["code"]) == (422, "does_not_fit"), refused.text
        detail = refused.json()["detail"]
        assert "this machine has" in detail
        assert "Most of it is the trainer: libraries 250 MB, weights" in detail
    assert api.get("/v1/runs", headers=submitter).json()["items"] == []
    assert api.post("/v1/runs", json=submission(tmp_path, "small"), headers=submitter).status_code == 201


def test_of_a_cluster_that_was_joined_only_what_is_known_refuses(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    large = submission(tmp_path, "large")
    assert api.post("/v1/runs", json=large, headers=submitter).status_code == 201  # nobody knows what the cluster has
    services.totals = Totals(cpus=100, memory_gib=7000)
    refused = api.post("/v1/runs", json=large, headers=submitter)
    assert refused.json()["code"] == "does_not_fit"
    assert (
        "the cluster has 10737.4 GB" in refused.json()["detail"]
    )  # Ray counts what its object store leaves: 7 of 10 parts
    services.totals = Totals(cpus=100, memory_gib=20_000)
    assert api.post("/v1/runs", json=large, headers=submitter).status_code == 201
    services.settings = services.settings.model_copy(update={"cluster_memory_gib": 1000.0})
    assert api.post("/v1/runs", json=large, headers=submitter).json()["code"] == "does_not_fit"


def test_a_validation_carries_both_layouts_and_the_object_store(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    services.settings = services.settings.model_copy(update={"ray_address": None})
    answer = api.post("/v1/runs/validate", json=submission(tmp_path, "small"), headers=submitter)
    assert answer.status_code == 200, answer.text
    plan = answer.json()["plan"]
    assert [(each["layout"], each["chosen"]) for each in plan["layouts"]] == [("dedicated", True), ("colocated", False)]
    assert 0 < plan["least_memory_bytes"] < plan["memory_bytes"]
    assert plan["object_store"]["parts"]["shards"] > 0


def test_while_nobody_knows_the_clusters_gpus_a_run_that_counts_them_is_taken(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    services.settings = services.settings.model_copy(update={"cluster_gpus": None})
    assert services.settings.ray_address is not None
    asked = submission(tmp_path, "small")
    asked["spec"]["resources"] = {"gpus": 2}
    for path in ("/v1/runs", "/v1/runs/validate"):
        answer = api.post(path, json=asked, headers=submitter)
        assert answer.status_code in (200, 201), answer.text
    services.totals = Totals(cpus=8, gpus=1)
    refused = api.post("/v1/runs", json=asked, headers=submitter)
    assert "resources.gpus is 2, there is 1" in refused.json()["detail"]
