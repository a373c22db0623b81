"""What a race gave: laps, operations and peaks of one task, and the figures that follow from them. Plain data, no torch."""

from dataclasses import asdict, dataclass, field
from math import sqrt
from statistics import fmean, median, stdev
from typing import Any

from race_laps import STAGES, Lap
from race_task import Task

XPO_RAY, TRL = "xpo_ray", "trl"
SIDES = (XPO_RAY, TRL)


@dataclass
class Race:
    """One task, raced in turns."""

    task: Task
    operations: dict[str, float]
    """Floating-point operations of one update, by side."""
    laps: dict[str, list[Lap]] = field(default_factory=lambda: {side: [] for side in SIDES})
    peaks: list[float] = field(default_factory=list)
    """Operations per second of a float32 matrix product, measured before each lap."""

    @property
    def peak(self) -> float:
        return max(self.peaks)

    def rates(self, side: str) -> list[float]:
        """Prompts per second of each lap."""
        return [lap.rate(self.task.batch, self.task.counted) for lap in self.laps[side]]

    def rate(self, side: str) -> float:
        return median(self.rates(side))

    @property
    def ratio(self) -> float:
        """How many times the prompts per second of TRL."""
        return self.rate(XPO_RAY) / self.rate(TRL)

    def share_of_peak(self, side: str) -> float:
        return self.operations[side] * self.rate(side) / self.task.batch / self.peak

    def stage_seconds(self, side: str) -> dict[str, float]:
        """Mean seconds of an update by stage."""
        laps = [lap.stage_seconds(self.task.counted) for lap in self.laps[side]]
        return {stage: fmean(lap[stage] for lap in laps) for stage in STAGES}

    def first_loss(self, side: str) -> float:
        """log 2 where policy and reference are the same model."""
        return self.laps[side][0].losses[0]

    def gains(self, side: str, thirds: slice) -> list[float]:
        """Mean score of the policy's draws above the reference's, update by update, over some thirds of each lap."""
        out: list[float] = []
        for lap in self.laps[side]:
            paired = [p - r for p, r in zip(lap.policy_scores, lap.reference_scores, strict=True)]
            cut = [i * len(paired) // 3 for i in range(4)]
            out += paired[cut[thirds.start] : cut[thirds.stop]]
        return out

    def figures(self) -> dict[str, Any]:
        """All that the table shows, and every lap, as JSON data."""
        sides = {side: self._figures_of(side) for side in SIDES}
        return {"task": asdict(self.task), "peak_operations_per_s": self.peak, "ratio": self.ratio, "sides": sides}

    def _figures_of(self, side: str) -> dict[str, Any]:
        return {
            "prompts_per_s": self.rates(side),
            "prompts_per_s_median": self.rate(side),
            "operations_per_update": self.operations[side],
            "share_of_peak": self.share_of_peak(side),
            "stage_seconds": self.stage_seconds(side),
            "first_loss": self.first_loss(side),
            "score_gain_first_third": mean_and_error(self.gains(side, slice(0, 1))),
            "score_gain_last_third": mean_and_error(self.gains(side, slice(2, 3))),
            "laps": [asdict(lap) for lap in self.laps[side]],
        }


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return fmean(values), stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
