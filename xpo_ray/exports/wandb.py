"""Weights & Biases: one run whose id is the run's own, so that every attempt goes on in it.

All charts are drawn over `total_step`, since evaluations come later than the steps behind them. With WANDB_MODE=offline each
attempt leaves a folder of its own below <output>/wandb, or below WANDB_DIR, under the one id.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from xpo_ray.exports.exporter import Point, RunCard, Sample, Samples
from xpo_ray.spec.exports import WandbExport

if TYPE_CHECKING:
    import wandb

GROUPS = ("train", "draw", "judge", "throughput", "evaluation")
OFFLINE = ("offline", "dryrun", "disabled")


class WandbExporter:
    """Metrics, the spec as config, and samples as a Table."""

    def __init__(self, export: WandbExport) -> None:
        self._export = export
        self._run: wandb.Run | None = None

    @property
    def run(self) -> "wandb.Run":
        assert self._run is not None, "open comes first"
        return self._run

    def open(self, card: RunCard) -> None:
        import wandb

        offline = wandb.setup().settings.mode in OFFLINE
        if not offline and not wandb.login(prompt=False, verify=False):  # else it would ask on the terminal
            raise RuntimeError("no API key: set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            entity=self._export.entity,
            project=self._export.project,
            id=card.run_id,
            name=card.name,
            tags=card.tags,
            config={**card.spec, "run_id": card.run_id},
            allow_val_change=True,  # another attempt may have other resources
            resume=None if offline else "allow",  # an offline run cannot be looked up
            reinit="create_new",
            dir=os.environ.get("WANDB_DIR") or card.root,
            settings=self._settings(wandb.Settings),
        )
        self.run.define_metric("total_step", hidden=True)
        for group in GROUPS:
            self.run.define_metric(f"{group}/*", step_metric="total_step")

    def _settings(self, make: Any) -> "wandb.Settings":
        """Silent: the terminal belongs to the run. The library's exit hook, too, waits as long as these limits allow."""
        limit_s = self._export.timeout_s
        settings: wandb.Settings = make(silent=True, console="off", init_timeout=limit_s, finish_timeout=limit_s)
        return settings

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            self.run.log({**point.values, "total_step": point.step, "_timestamp": point.at})

    def show(self, samples: Samples) -> None:
        import wandb

        columns = ["iteration", *(field.name for field in fields(Sample))]
        rows = [[samples.iteration, *asdict(sample).values()] for sample in samples.rows]
        table = wandb.Table(columns=columns, data=rows, allow_mixed_types=True)
        self.run.log({"evaluation/samples": table, "total_step": samples.step, "_timestamp": samples.at})

    def close(self, *, succeeded: bool) -> None:
        self.run.finish(exit_code=0 if succeeded else 1)
