"""All tables. Times are UTC; ids are prefixed random strings; what only the code reads together is one JSON column."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, String, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(TypeDecorator[datetime]):
    """A point in time in UTC; SQLite, which knows no zones, keeps it without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a time without a zone"
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
        datetime: Moment,
        int: BigInteger,
    }


class Key(Table):
    """A bearer key; of its secret only the SHA-256."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    prefix: Mapped[str] = mapped_column(String(32))
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    quotas: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Login(Table):
    """A session of the pages: a cookie that stands for a key."""

    __tablename__ = "logins"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class Run(Table):
    """A run. Its status changes only by compare-and-set on (status, attempt), with the event in the same transaction."""

    __tablename__ = "runs"
    __table_args__ = (Index("runs_queue", "status", "priority", "queued_at"), Index("runs_by_age", "created_at", "id"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    name: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(24))
    attempt: Mapped[int] = mapped_column(default=0)
    version: Mapped[int] = mapped_column(default=1)
    event_seq: Mapped[int] = mapped_column(default=0)
    """`seq` of the last event."""
    priority: Mapped[int]
    notes: Mapped[dict[str, Any]]
    """The user's metadata (a name that SQLAlchemy has taken)."""
    cpus: Mapped[float]
    gpus: Mapped[float]
    memory_gib: Mapped[float]
    retention: Mapped[dict[str, Any]]
    spec: Mapped[dict[str, Any]]
    """Resolved, `output.path` included."""
    secrets: Mapped[list[str]]
    webhooks: Mapped[list[str]]
    progress: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
    forked_run: Mapped[str | None] = mapped_column(ForeignKey("runs.id"))
    forked_iteration: Mapped[int | None]
    fruitless: Mapped[int] = mapped_column(default=0)
    """Attempts in a row that ended without progress."""
    retry_at: Mapped[datetime | None]
    """Before then no next attempt starts."""
    waiting_for: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]
    queued_at: Mapped[datetime]
    """Since when it has stood in the queue."""
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    deleting: Mapped[bool] = mapped_column(default=False)
    """Files are being removed; the row goes last."""


class Attempt(Table):
    """One try at a run by one driver."""

    __tablename__ = "attempts"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    """submitting, submitted, claimed, ended."""
    ray_job: Mapped[str] = mapped_column(String(80))
    ticket_sha256: Mapped[str] = mapped_column(String(64))
    nonce_sha256: Mapped[str | None] = mapped_column(String(64))
    token_sha256: Mapped[str | None] = mapped_column(String(64), unique=True)
    versions: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    stop_wanted_at: Mapped[datetime | None]
    """Since when its driver has been asked to stop."""
    ended_at: Mapped[datetime | None]
    ending: Mapped[str | None] = mapped_column(String(16))
    error: Mapped[dict[str, Any] | None]
    shipped: Mapped[int] = mapped_column(default=0)
    """Journal records received."""
    progressed: Mapped[bool] = mapped_column(default=False)
    """Something new was committed by it."""


class Event(Table):
    """One event of a run; `seq` has no gap."""

    __tablename__ = "events"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(String(40))
    level: Mapped[str] = mapped_column(String(8))
    attempt: Mapped[int]
    at: Mapped[datetime]
    payload: Mapped[dict[str, Any]]


class Step(Table):
    """Metrics of one optimizer step; of a step that was done again, the last time's."""

    __tablename__ = "steps"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    total_step: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    iteration: Mapped[int]
    step: Mapped[int]
    seconds: Mapped[float]
    metrics: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Evaluation(Table):
    """Held-out metrics of the model after an iteration."""

    __tablename__ = "evaluations"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    metrics: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Stage(Table):
    """What a stage did in an iteration: the sums behind prompts/s."""

    __tablename__ = "stages"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    iteration: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(String(24), primary_key=True)
    shards: Mapped[int]
    prompts: Mapped[int]
    seconds: Mapped[float]
    counts: Mapped[dict[str, Any]]


class Answered(Table):
    """What was answered to a request with an Idempotency-Key; written in the transaction of the request itself."""

    __tablename__ = "answered"

    key_id: Mapped[str] = mapped_column(ForeignKey("keys.id"), primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    body: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class Dataset(Table):
    """A dataset that specs may name by its id."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    name: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    source: Mapped[dict[str, Any]]
    """As in data.source of a spec."""
    rows: Mapped[int | None]
    bytes: Mapped[int | None]
    sha256: Mapped[str | None] = mapped_column(String(64))
    format: Mapped[str | None] = mapped_column(String(24))
    columns: Mapped[list[dict[str, Any]]]
    usable_for: Mapped[list[str]]
    created_at: Mapped[datetime]


class Model(Table):
    """A model that specs may name by its id."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    name: Mapped[str] = mapped_column(String(64))
    path: Mapped[str | None] = mapped_column(String(1024))
    repository: Mapped[str | None] = mapped_column(String(255))
    revision: Mapped[str | None] = mapped_column(String(255))
    parameters: Mapped[int | None]
    architecture: Mapped[str | None] = mapped_column(String(128))
    created_at: Mapped[datetime]


class Webhook(Table):
    """Whom to tell; `secret` signs the deliveries and so cannot be hashed."""

    __tablename__ = "webhooks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    owner: Mapped[str] = mapped_column(ForeignKey("keys.id"))
    url: Mapped[str] = mapped_column(String(2000))
    secret: Mapped[str] = mapped_column(String(80))
    triggers: Mapped[list[str]]
    all_runs: Mapped[bool]
    failures: Mapped[int] = mapped_column(default=0)
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Delivery(Table):
    """One message to a webhook; made in the transaction of the status change that it tells of."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_due", "state", "due_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    run_id: Mapped[str] = mapped_column(String(40))
    body: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(12))
    """due, delivered, given_up."""
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    last_error: Mapped[str | None] = mapped_column(String(500))


class Fact(Table):
    """Facts of the service itself, by name: the key that tokens are derived from, who serves a SQLite file."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[dict[str, Any]]
