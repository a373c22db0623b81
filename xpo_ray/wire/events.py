"""Events of a run over HTTP: one gap-free sequence for each run, over all attempts."""

from datetime import datetime
from typing import Any, Literal

from xpo_ray.wire.base import Answer

Level = Literal["info", "warning", "error"]


class EventView(Answer):
    """One event. `type` is snake_case; those of a driver are the classes of xpo_ray.reporting (`step_done`, `shard_done`, …),
    those of the service `run_queued`, `run_edited`, `status_changed`, `attempt_started`, `attempt_ended`,
    `checkpoints_freed`."""

    seq: int
    """1, 2, 3, … within the run; also the id of a server-sent event."""
    type: str
    level: Level
    attempt: int
    at: datetime
    payload: dict[str, Any]


class Series(Answer):
    """One metric by step or by iteration."""

    name: str
    x: list[float]
    y: list[float | None]


class Metrics(Answer):
    """Series of a run: training metrics by total step, held-out metrics by iteration, seconds and prompts by stage."""

    steps: list[Series]
    evaluations: list[Series]
    stages: list[Series]
    """prompts/s of each stage, by iteration."""
