"""What a run leaves, over HTTP: iterations, checkpoints, samples."""

from datetime import datetime
from typing import Any, Literal

from xpo_ray.wire.base import Answer


class IterationView(Answer):
    """One iteration of a run."""

    iteration: int
    status: Literal["planned", "running", "published"]
    prompts: int | None
    shards: int | None
    shards_scored: int
    steps: int | None
    steps_done: int
    kappa: float | None
    learning_rate: float | None
    evaluation: dict[str, float | None] | None
    checkpoint: str | None


class FileView(Answer):
    """One file of a checkpoint; it is downloaded by its id."""

    id: str
    name: str
    size: int
    sha256: str


class CheckpointView(Answer):
    """A published checkpoint."""

    id: str
    iteration: int
    step: int
    """0 at the border of an iteration."""
    total_steps: int
    size: int
    created_at: datetime
    attempt: int
    kept: bool
    """False where retention has freed its files."""
    selected: bool
    """Whether the run's result was made of it."""
    metrics: dict[str, float | None] | None
    files: list[FileView]


class SampleView(Answer):
    """What was drawn for a held-out prompt (`kind: held_out`), or the candidates of a training prompt (`training`)."""

    iteration: int
    kind: Literal["held_out", "training"]
    row: int
    prompt: list[dict[str, Any]]
    candidates: list[dict[str, Any]]
    """text, origin, score, tokens, ended; chosen and rejected are marked in `role`."""
    note: str | None = None
    """Why no pair was made: a tie, a failed judge."""
