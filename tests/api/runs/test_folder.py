"""The folder of a run, made from its row."""

import json
from pathlib import Path

from sqlalchemy import select

from tests.api.conftest import Headers
from tests.api.rows import add_run
from xpo_ray.api.database.tables import Key
from xpo_ray.api.runs.folder import make_folder
from xpo_ray.api.services import Services
from xpo_ray.spec.loading import digest


def test_a_folder_says_which_run_it_is_and_is_made_once(services: Services, admin: Headers, tmp_path: Path) -> None:
    assert admin
    with services.database.read() as session:
        owner = session.scalars(select(Key.id)).one()
    spec = {"name": "tiny", "seed": 7}
    run = add_run(services, "run_1", owner, spec=spec)
    root = tmp_path / "runs" / "run_1"
    make_folder(root, run)
    record = json.loads((root / "run.json").read_text())
    assert record == {
        "run_id": "run_1",
        "created": run.created_at.timestamp(),
        "spec": spec,
        "spec_sha256": digest(spec),
    }
    before = (root / "run.json").stat()
    make_folder(root, run)
    assert (root / "run.json").stat().st_ino == before.st_ino
    assert [p.name for p in root.iterdir()] == ["run.json"]
