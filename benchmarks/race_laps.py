"""What is kept of one lap: when each update ended, where its time went, and what the draws scored. Plain data, no torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

DRAW, JUDGE, REFERENCE, STEP, OTHER = "draw", "judge", "reference log-probs", "policy step", "other"
STAGES = (DRAW, JUDGE, REFERENCE, STEP, OTHER)
"""`policy step`: the policy's log-probs, backward and optimizer. `other`: all that is none of these."""


@dataclass(frozen=True)
class Lap:
    """One run of one side; lists have one entry for each update."""

    ends: list[float]
    """Seconds, from an origin of the side's own."""
    stages: list[dict[str, float]]
    """Seconds by stage; the first update may lack some."""
    policy_scores: list[float]
    """Mean score of the policy's draws."""
    reference_scores: list[float]
    losses: list[float]
    """Preference loss."""
    process_seconds: float = 0.0
    """The whole process, with imports, start and end."""

    def rate(self, batch: int, counted: slice) -> float:
        """Prompts per second over some updates, of which the first of all is none."""
        ends = self.ends[counted.start - 1 : counted.stop]
        return batch * (len(ends) - 1) / (ends[-1] - ends[0])

    def stage_seconds(self, counted: slice) -> dict[str, float]:
        """Mean seconds of an update by stage."""
        kept = self.stages[counted]
        return {stage: sum(s.get(stage, 0.0) for s in kept) / len(kept) for stage in STAGES}


def write_lap(path: Path, lap: Lap) -> None:
    path.write_text(json.dumps(asdict(lap)))


def read_lap(path: Path) -> Lap:
    return Lap(**json.loads(path.read_text()))
