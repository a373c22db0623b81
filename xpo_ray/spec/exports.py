"""Experiment trackers that a run reports to, as the user names them.

Addresses and secrets never stand in a spec: each library reads its own environment variables, which a field's docstring names.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat

from xpo_ray.spec.base import Spec


class ExportBase(Spec):
    """What every tracker has."""

    tags: tuple[str, ...] = ()
    """Labels of the run in the tracker, beside the kind of its algorithm."""
    samples: bool = True
    """Send held-out responses too; `output.samples` says how many."""
    timeout_s: PositiveFloat = 30.0
    """At the end of an attempt, wait no longer than this for the tracker to take what is left. W&B must have answered by
    then at the beginning too."""


class TensorBoardExport(ExportBase):
    """Event files in `<output>/tensorboard`; look at them with `tensorboard --logdir <output>`."""

    kind: Literal["tensorboard"]


class WandbExport(ExportBase):
    """Weights & Biases; it reads WANDB_API_KEY, WANDB_BASE_URL and WANDB_MODE (`offline` writes files alone)."""

    kind: Literal["wandb"]
    project: str = "xpo_ray"
    entity: str | None = None
    """User or team; default: that of the key."""


class MlflowExport(ExportBase):
    """MLflow; it reads MLFLOW_TRACKING_URI and its credentials. Without an address it writes `mlflow.db` where it starts."""

    kind: Literal["mlflow"]
    experiment: str = "xpo_ray"


class TrackioExport(ExportBase):
    """Trackio; it reads TRACKIO_DIR for its local database, or TRACKIO_SPACE_ID or TRACKIO_SERVER_URL with a token."""

    kind: Literal["trackio"]
    project: str = Field("xpo_ray", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


ExportSpec = Annotated[
    TensorBoardExport | WandbExport | MlflowExport | TrackioExport,
    Field(discriminator="kind"),
]


def _one_of_each(exports: tuple[ExportSpec, ...]) -> tuple[ExportSpec, ...]:
    kinds = [export.kind for export in exports]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ValueError(f"{', '.join(twice)} is named more than once; a run reports to one of each kind")
    return exports


Exports = Annotated[tuple[ExportSpec, ...], AfterValidator(_one_of_each)]
