"""The whole service on a real PostgreSQL: one run, and the API killed in the middle of it."""

from pathlib import Path

import pytest

from tests.api import postgres
from tests.running import model_digest
from tests.service.invariants import faults_of
from tests.service.recovery import begun
from tests.service.serving import serving
from tests.service.worlds import make_world, undisturbed

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults]


def test_a_run_goes_through_and_survives_the_api(tmp_path: Path) -> None:
    programs = postgres.binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    world, secrets = tmp_path / "world", tmp_path / "secrets.json"
    world.mkdir()
    secrets.write_text('{"HIDDEN": "canary-of-postgres"}')
    spec = make_world(world, judge_s=0.1, prompts=24)
    digest = model_digest(undisturbed(world, spec))
    options = ("--secrets-file", str(secrets))
    with (
        postgres.server(programs) as running,
        running.database() as url,
        serving(tmp_path / "storage", world, *options, database_url=url) as service,
    ):
        run_id = begun(service, spec)
        service.kill()
        service.start()
        run = service.until(run_id, "succeeded")
        assert faults_of(service.storage, url, run_id, canary="canary-of-postgres") == []
        assert run["attempt"] == 1
        assert model_digest(service.root(run_id) / "attempts" / "0001") == digest
        assert not list(service.storage.glob("*.sqlite"))
        metrics = service.call("GET", f"/v1/runs/{run_id}/metrics").json()
        assert {s["name"] for s in metrics["steps"]} >= {"loss", "seconds"}
        assert service.call("GET", "/v1/runs").json()["items"][0]["id"] == run_id
