"""MLflow on a database of its own, read back through its client. Making the database takes it some seconds: one serves all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.xpo_ray.exports.journal import SPEC, WHOLE, card, evaluation, ship, step, tell
from xpo_ray.exports.exporter import Point
from xpo_ray.exports.mlflow import RUN_TAG, MlflowExporter
from xpo_ray.reporting import RunFinished, RunStarted
from xpo_ray.spec.exports import MlflowExport

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

pytest.importorskip("mlflow", reason="needs xpo-ray[mlflow]")
pytest.importorskip("sqlalchemy", reason="needs xpo-ray[mlflow]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, on the newest SQLAlchemy


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator["MlflowClient"]:
    """A client of a new database, whose address stands in the environment."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        client = MlflowClient()
        for name in ("whole", "resumed", "twice"):
            client.create_experiment(name, artifact_location=str(folder / "artifacts"))
        yield client


def exporter(experiment: str) -> MlflowExporter:
    return MlflowExporter(MlflowExport(kind="mlflow", experiment=experiment))


def only_run(client: "MlflowClient", experiment: str) -> "Run":
    """The one run of an experiment."""
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def history(client: "MlflowClient", run: "Run", name: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name))


def test_a_run_holds_params_tags_metrics_samples_and_its_end(client: "MlflowClient", tmp_path: Path) -> None:
    tell(tmp_path, 1, *WHOLE)
    ship(tmp_path, 1, "mlflow", lambda: exporter("whole"))
    run = only_run(client, "whole")
    assert (run.info.run_name, run.info.status) == ("tiny", "FINISHED")
    assert {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.")} == {
        RUN_TAG: "run_1",
        "selm": "true",
        "mine": "true",
    }
    assert run.data.params["training.batch_size"] == "8"
    assert run.data.params["data.source.path"] == json.dumps(SPEC["data"]["source"]["path"])[:6000]
    assert history(client, run, "train/loss") == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3)), (4, 0.4)]
    assert history(client, run, "evaluation/reward") == [(0, 1.0), (2, 2.0), (4, 3.0)]
    read = client.download_artifacts(run.info.run_id, "spec-attempt-1.json", str(tmp_path))
    assert json.loads(Path(read).read_text()) == SPEC
    experiment = run.info.experiment_id
    samples = client.load_table(experiment, "samples/iteration-0002.json", run_ids=[run.info.run_id])
    assert samples["response"].tolist() == ["<script>no</script>"]


def test_the_next_attempt_goes_on_in_the_same_run(client: "MlflowClient", tmp_path: Path) -> None:
    tell(tmp_path, 1, step(1), step(2), RunFinished("failed", 1.0, 0))
    ship(tmp_path, 1, "mlflow", lambda: exporter("resumed"))
    assert only_run(client, "resumed").info.status == "FAILED"
    tell(tmp_path, 2, RunStarted("run_1", 2, 2, 4), step(2, 0.9, replayed=True), step(3), evaluation(0))
    tell(tmp_path, 2, RunFinished("succeeded", 1.0, 1))
    ship(tmp_path, 2, "mlflow", lambda: exporter("resumed"))
    run = only_run(client, "resumed")
    assert run.info.status == "FINISHED"
    assert history(client, run, "train/loss") == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert {a.path for a in client.list_artifacts(run.info.run_id)} >= {"spec-attempt-1.json", "spec-attempt-2.json"}


def test_a_batch_that_a_kill_lets_come_twice_stands_once(client: "MlflowClient", tmp_path: Path) -> None:
    for _ in range(2):
        again = exporter("twice")
        again.open(card(tmp_path))
        again.log([Point(1, 100.0, {"train/loss": 0.5})])
    run = only_run(client, "twice")
    (metric,) = client.get_metric_history(run.info.run_id, "train/loss")
    assert (metric.step, metric.timestamp, metric.value) == (1, 100_000, 0.5)
