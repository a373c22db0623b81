"""Metrics of a run in experiment trackers while it runs: TensorBoard, Weights & Biases, MLflow, Trackio.

    driver ──events──► journal ◄──reads── shipper, a thread for each tracker ──points, samples──► exporter ──► library

The driver puts an ExportReporter behind its Tee; `xpo-ray validate` asks check_exports. A tracker can neither block nor fail a
run. Each library is an optional extra and is imported only in its own file of this folder, in its shipper's thread.
"""

from xpo_ray.exports.exporter import Exporter
from xpo_ray.spec.exports import ExportSpec


def exporter_of(export: ExportSpec) -> Exporter:
    """The exporter of a tracker; its library is imported when it opens."""
    match export.kind:
        case "tensorboard":
            from xpo_ray.exports.tensorboard import TensorBoardExporter

            return TensorBoardExporter()
        case "wandb":
            from xpo_ray.exports.wandb import WandbExporter

            return WandbExporter(export)
        case "mlflow":
            from xpo_ray.exports.mlflow import MlflowExporter

            return MlflowExporter(export)
        case "trackio":
            from xpo_ray.exports.trackio import TrackioExporter

            return TrackioExporter(export)
