"""MLflow: one run, found again by the tag `xpo_ray.run_id`, through the client alone: no global state is touched.

The address and the credentials come from the environment. Params cannot change once they are set; what another attempt has
changed stands in its `spec-attempt-<n>.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from xpo_ray.exports.exporter import Point, RunCard, Samples
from xpo_ray.spec.exports import MlflowExport

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_TAG = "xpo_ray.run_id"
BATCH_METRICS = 1000
BATCH_PARAMS = 100
PARAM_CHARACTERS = 6000
"""Limits of MLflow, for one request and for one value."""


class MlflowExporter:
    """Metrics, the spec as params, and samples as a table among the artifacts."""

    def __init__(self, export: MlflowExport) -> None:
        self._export = export
        self._client: MlflowClient | None = None
        self._run_id = ""

    @property
    def client(self) -> "MlflowClient":
        assert self._client is not None, "open comes first"
        return self._client

    def open(self, card: RunCard) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        experiment = self._experiment()
        found = self.client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{card.run_id}'", max_results=1)
        if found:
            run = found[0]
            self.client.update_run(run.info.run_id, status="RUNNING")
        else:
            tags = {RUN_TAG: card.run_id, **dict.fromkeys(card.tags, "true")}
            run = self.client.create_run(experiment, tags=tags, run_name=card.name)
        self._run_id = run.info.run_id
        new = {key: _text(value) for key, value in card.settings().items() if key not in run.data.params}
        params = [Param(key, value) for key, value in new.items()]
        for start in range(0, len(params), BATCH_PARAMS):
            self.client.log_batch(self._run_id, params=params[start : start + BATCH_PARAMS])
        self.client.log_dict(self._run_id, dict(card.spec), f"spec-attempt-{card.attempt}.json")

    def _experiment(self) -> str:
        """The id of the experiment, which is made where there is none."""
        from mlflow.exceptions import MlflowException

        name = self._export.experiment
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                made: str = self.client.create_experiment(name)
                return made
            except MlflowException:  # another run may have made it in between
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        experiment: str = found.experiment_id
        return experiment

    def log(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, float(value), round(point.at * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), BATCH_METRICS):
            self.client.log_batch(self._run_id, metrics=metrics[start : start + BATCH_METRICS])

    def show(self, samples: Samples) -> None:
        rows = [asdict(sample) for sample in samples.rows]
        columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
        self.client.log_table(self._run_id, columns, f"samples/iteration-{samples.iteration:04d}.json")

    def close(self, *, succeeded: bool) -> None:
        self.client.set_terminated(self._run_id, "FINISHED" if succeeded else "FAILED")


def _text(value: Any) -> str:
    """What fits into a param; the artifact has the whole value."""
    return (value if isinstance(value, str) else json.dumps(value))[:PARAM_CHARACTERS]
