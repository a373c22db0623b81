"""What the inspection of a dataset found, as it travels from the inspecting process to the service. Plain data."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from xpo_ray.wire.data import ColumnReport, PreviewRow

PREVIEW_ROWS = 50
PAIRED = ("selm", "iterative_dpo", "dpo", "sdpo")
PROMPTED = ("xpo", "online_dpo")


class Findings(BaseModel):
    """A dataset that could be read."""

    model_config = ConfigDict(frozen=True)

    rows: int
    bytes: int | None
    sha256: str | None
    """Over the sizes and hashes of the files in their order; None for a hub repository."""
    format: str | None
    columns: list[ColumnReport]
    usable_for: list[str]
    preview: list[PreviewRow]


class Inspected(BaseModel):
    """The last word of an inspecting process: findings, or why the dataset is refused."""

    findings: Findings | None = None
    refused: str | None = None


class Asked(BaseModel):
    """What an inspecting process is asked."""

    source: dict[str, Any]
    hide: str
    """A folder that is left out of messages."""
