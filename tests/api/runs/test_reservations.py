"""GPUs that a run reserves: counted from its spec, refused where they can never be had, and handed to its driver as a limit."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import Headers
from xpo_ray.api.cluster.capacity import Totals
from xpo_ray.api.database.tables import Run
from xpo_ray.api.runs.reservations import cluster_gpus, may_take
from xpo_ray.api.services import Services
from xpo_ray.api.settings import Settings


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    (tmp_path / "base").mkdir()
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    return settings.model_copy(update={"roots": (str(tmp_path),)})


def submission(folder: Path, asked: float | None, resources: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "model": {"path": str(folder / "base")},
        "data": {"source": {"kind": "files", "path": str(folder / "train.jsonl")}},
        "algorithm": {"kind": "dpo"},
        "resources": resources,
    }
    return {"spec": spec} | ({} if asked is None else {"reservation": {"gpus": asked}})


@pytest.mark.parametrize(
    ("asked", "resources", "reserved"),
    [
        (None, {}, 4.0),  # two for the trainer, two engines
        (None, {"layout": "colocated"}, 4.0),
        (None, {"gpus": 1}, 1.0),
        (None, {"gpus": 0}, 0.0),
        (None, {"trainer_workers": 1, "engine_replicas": 1}, 2.0),
        (2, {}, 2.0),
        (0, {"layout": "colocated"}, 4.0),
        (16, {}, 16.0),
    ],
)
def test_a_run_reserves_the_gpus_that_it_will_hold(
    api: TestClient,
    services: Services,
    submitter: Headers,
    tmp_path: Path,
    asked: float,
    resources: Any,
    reserved: float,
) -> None:
    services.totals = Totals(cpus=8.0, gpus=4.0)
    answer = api.post("/v1/runs", json=submission(tmp_path, asked, resources), headers=submitter)
    assert answer.status_code == 201, answer.text
    assert answer.json()["reservation"]["gpus"] == reserved


@pytest.mark.parametrize(
    ("asked", "resources", "field", "told"),
    [
        (
            None,
            {"trainer_workers": 8},
            "spec.resources",
            "spec.resources: the run asks for 9 GPUs and may take 4: trainer 8 × 1; base at least 1 together. Lower "
            "resources.trainer_workers; or let all roles take turns on the same GPUs (resources.layout: colocated) "
            "(the cluster has 4 GPUs)",
        ),
        (2, {"gpus": 3}, "reservation.gpus", "lower it, leave it out, or join a cluster that has them"),
        (0.5, {}, "reservation.gpus", "reservation.gpus 0.5: a run holds whole GPUs, which its roles share"),
    ],
)
def test_a_run_that_can_never_be_placed_is_refused_at_submission(
    api: TestClient,
    services: Services,
    submitter: Headers,
    tmp_path: Path,
    asked: Any,
    resources: Any,
    field: str,
    told: str,
) -> None:
    services.totals = Totals(cpus=8.0, gpus=4.0)
    for route in ("/v1/runs", "/v1/runs/validate"):
        answer = api.post(route, json=submission(tmp_path, asked, resources), headers=submitter)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "spec_invalid", field)
        assert told in answer.json()["detail"]


def test_edited_and_forked_runs_are_counted_anew(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    services.totals = Totals(cpus=8.0, gpus=4.0)
    run = api.post("/v1/runs", json=submission(tmp_path, None, {}), headers=submitter).json()
    edit = {"reservation": {"gpus": 2}}
    edited = api.patch(f"/v1/runs/{run['id']}", json=edit, headers={**submitter, "If-Match": "*"})
    assert (edited.status_code, edited.json()["reservation"]["gpus"]) == (200, 2.0)
    fork = {"iteration": 0, "changes": {"resources": {"gpus": 1}}}
    forked = api.post(f"/v1/runs/{run['id']}/fork", json=fork, headers=submitter)
    assert (forked.status_code, forked.json()["reservation"]["gpus"]) == (201, 1.0), forked.text


def test_an_edit_of_a_run_whose_spec_is_of_an_older_version_keeps_what_is_asked(
    api: TestClient, services: Services, submitter: Headers, tmp_path: Path
) -> None:
    services.totals = Totals(cpus=8.0, gpus=4.0)
    run = api.post("/v1/runs", json=submission(tmp_path, None, {}), headers=submitter).json()
    with services.database.write() as session:
        session.get_one(Run, run["id"]).spec = {"gone": True}
    edit = {"reservation": {"cpus": 3, "gpus": 2}}
    edited = api.patch(f"/v1/runs/{run['id']}", json=edit, headers={**submitter, "If-Match": "*"})
    assert edited.status_code == 200, edited.text
    assert (edited.json()["reservation"]["cpus"], edited.json()["reservation"]["gpus"]) == (3.0, 2.0)


def test_a_driver_is_granted_no_more_gpus_than_its_run_has_reserved() -> None:
    spec = {"name": "tiny", "resources": {"layout": "dedicated", "gpus": None}}
    assert may_take(spec, 0.0) == spec
    assert may_take(spec, 2.0) == {"name": "tiny", "resources": {"layout": "dedicated", "gpus": 2}}
    assert may_take({"resources": {"gpus": 1}}, 4.0) == {"resources": {"gpus": 1}}


def test_the_operators_number_of_gpus_goes_before_the_clusters(services: Services) -> None:
    services.totals = Totals(gpus=4.0)
    assert cluster_gpus(services) == 4
    services.settings = services.settings.model_copy(update={"cluster_gpus": 3.0})
    assert cluster_gpus(services) == 3
    services.totals = None
    services.settings = services.settings.model_copy(
        update={"cluster_gpus": None, "ray_address": "http://10.0.0.1:8265"}
    )
    assert cluster_gpus(services) is None
