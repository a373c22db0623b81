"""Datasets and models over HTTP."""

from typing import Any, Literal

from pydantic import Field

from xpo_ray.wire.base import Answer, Name, Question, Stamped


class RegisteredFiles(Question):
    """Files that lie under one of the operator's roots."""

    kind: Literal["files"]
    path: str


class RegisteredHub(Question):
    """A dataset of the hub whose repository is on the operator's list."""

    kind: Literal["hub"]
    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None


class NewDataset(Question):
    """A dataset that is registered, not uploaded."""

    name: Name
    source: RegisteredFiles | RegisteredHub = Field(discriminator="kind")


class ColumnReport(Answer):
    """One column of a dataset."""

    name: str
    type: str
    missing: int
    """Rows without a value, of those that were looked at."""
    role: Literal["prompt", "chosen", "rejected", "prompt_id", "conversations", "system", "unused"]
    """`unused`: no run reads it."""


class DatasetView(Stamped):
    """A dataset."""

    object: Literal["dataset"] = "dataset"
    name: str
    owner: str
    kind: Literal["uploaded", "files", "hub"]
    rows: int | None
    bytes: int | None
    sha256: str | None
    format: str | None
    """What its columns were recognised as: ultrafeedback, texts, sharegpt, transcript, prompts."""
    columns: list[ColumnReport]
    usable_for: list[str]
    """Algorithms that can be run on it."""
    source: dict[str, Any]


class PreviewRow(Answer):
    """One of the first rows of a dataset, with long texts cut."""

    row: int
    prompt: list[dict[str, str]] | None
    """The normalised form, as a run reads it; None where the columns were not recognised."""
    chosen: str | None
    rejected: str | None
    raw: dict[str, str]
    """Each column as text; what is no text, as JSON."""


class DatasetPreview(Answer):
    """The first rows of a dataset."""

    rows: list[PreviewRow]


class NewModel(Question):
    """A model to be registered: a folder under the operator's roots, or a hub repository on the operator's list."""

    name: Name
    path: str | None = None
    repository: str | None = None
    revision: str | None = None


class ModelView(Stamped):
    """A model that a spec may name by `model: {registered: <id>}`."""

    object: Literal["model"] = "model"
    name: str
    owner: str
    path: str | None
    repository: str | None
    revision: str | None
    parameters: int | None
    architecture: str | None
