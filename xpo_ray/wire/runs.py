"""Runs over HTTP: what is submitted, what may be edited, and what is answered."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat

from xpo_ray.run_states import Status
from xpo_ray.wire.base import Answer, Count, Metadata, Question, Stamped


class Reservation(Question):
    """What a run holds of the cluster while it runs; the queue admits it when as much is free."""

    cpus: NonNegativeFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    """0: as many as the run's roles take of those that the cluster has. It takes no more than it has reserved."""
    memory_gib: NonNegativeFloat = 0.0


class Retention(Question):
    """Which checkpoints at the borders of iterations stay after the run; the one that the result was made of always does."""

    last: Count | None = None
    """This many of the newest; None keeps all."""
    best: bool = True
    """And the one with the best held-out reward."""


class Submission(Question):
    """A new run."""

    spec: dict[str, Any]
    """As in the YAML file, without `output`. Beside what a file may say: `data.source: {kind: dataset, id: ds_…}` and
    `model: {registered: model_…}`."""
    priority: int = Field(0, ge=-100, le=100)
    """Higher goes first; equals in the order of submission."""
    metadata: Metadata = Field(default_factory=dict)
    reservation: Reservation = Reservation()
    retention: Retention = Retention()
    secrets: list[str] = Field(default_factory=list, max_length=16)
    """Names of the operator's secrets that the run's processes shall have as environment variables."""
    webhooks: list[str] = Field(default_factory=list, max_length=8)
    """Ids of webhooks that hear of this run."""


class Edit(Question):
    """Changes of a run that does not run: queued or paused."""

    priority: int | None = Field(None, ge=-100, le=100)
    metadata: Metadata | None = None
    reservation: Reservation | None = None
    retention: Retention | None = None


class Fork(Question):
    """A new run whose initial model is that of an iteration of another, with the same spec where nothing else is said."""

    iteration: int = Field(ge=0, le=1_000_000)
    changes: dict[str, Any] = Field(default_factory=dict)
    """Laid over the spec of the first run, object by object: {"training": {"learning_rate": 1e-5}}."""
    name: str | None = None
    priority: int = Field(0, ge=-100, le=100)
    metadata: Metadata = Field(default_factory=dict)
    reservation: Reservation | None = None
    secrets: list[str] | None = Field(None, max_length=16)
    """As in a submission. None: those of the first run for its owner or an admin, and none for anybody else."""


class RunError(Answer):
    """Why a run failed: `user` means that the spec, the data or the judge must change, `system` that it does not lie there."""

    code: str
    message: str
    kind: Literal["user", "system"]
    traceback: str | None = None


class Progress(Answer):
    """How far the run has come, over all attempts."""

    iteration: int = 0
    """Iterations published."""
    iterations: int = 0
    steps: int = 0
    total_steps: int = 0
    prompts: int = 0
    """Prompts scored and committed."""
    replayed_steps: int = 0
    """Steps that were done again after a death: wasted work."""
    seconds_remaining: float | None = None
    """By the steps of the last minutes; None before there are some."""


class Origin(Answer):
    """Where a forked run comes from."""

    run: str
    iteration: int


class RunView(Stamped):
    """A run."""

    object: Literal["run"] = "run"
    name: str
    status: Status
    owner: str
    """Id of the key that submitted it."""
    attempt: int
    """Attempts begun; 0 before the first."""
    version: int
    """Grows with every change of the run; the ETag."""
    started_at: datetime | None
    finished_at: datetime | None
    priority: int
    queue_position: int | None
    """1 is next; None for a run that is not queued."""
    waiting_for: str | None = None
    """Why a queued run is not started, or a run is between two attempts."""
    metadata: dict[str, str]
    reservation: Reservation
    retention: Retention
    spec: dict[str, Any]
    """Resolved, with the seed."""
    progress: Progress
    error: RunError | None
    forked_from: Origin | None
    ray_job: str | None
    """Submission id of the newest attempt in the Ray dashboard."""
    selected_iteration: int | None = None
    """Of a run that succeeded: whose model is the result."""
    tier: Literal["exact", "replay"] | None = None


class AttemptView(Answer):
    """One try at a run by one driver."""

    number: int
    state: Literal["submitting", "submitted", "claimed", "ended"]
    ray_job: str
    started_at: datetime
    claimed_at: datetime | None
    heartbeat_at: datetime | None
    ended_at: datetime | None
    ending: str | None
    """How it ended: succeeded, failed, paused, cancelled, superseded, died."""
    error: RunError | None


class Validated(Answer):
    """The resolved spec and what the run will take."""

    spec: dict[str, Any]
    plan: dict[str, Any]
    warnings: list[str] = Field(default_factory=list)
