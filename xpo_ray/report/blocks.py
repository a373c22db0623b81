"""What a section of the report is made of: figures, tables, tiles, notes. Plain data; the template gives it its looks."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A chart in Plotly's JSON, with its title and the one sentence that says how to read it."""

    title: str
    reading: str
    chart: dict[str, Any]
    kind: str = "figure"


@dataclass(frozen=True)
class Row:
    """Figures that stand side by side where there is room."""

    figures: tuple[Figure, ...]
    kind: str = "row"


@dataclass(frozen=True)
class Table:
    """Cells are texts; the first column names the row, the others are set as numbers where `numeric`."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    numeric: bool = True
    kind: str = "table"


@dataclass(frozen=True)
class Note:
    """One line: why something is not shown, or what was left out; with the tone `bad` what a reader must not miss."""

    text: str
    tone: str = ""
    kind: str = "note"


@dataclass(frozen=True)
class Tile:
    """One number of the headline, with what it is measured against."""

    label: str
    value: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Tiles:
    """The headline's numbers."""

    tiles: tuple[Tile, ...]
    kind: str = "tiles"


@dataclass(frozen=True)
class Folded:
    """Text that is shown on demand."""

    summary: str
    text: str
    kind: str = "folded"


@dataclass(frozen=True)
class Sample:
    """One model's response to a held-out prompt."""

    model: str
    response: str
    score: float | None
    tokens: int
    ended: bool


@dataclass(frozen=True)
class SampleGroup:
    """A held-out prompt and the responses of the models, oldest first."""

    prompt: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]

    @property
    def gain(self) -> float:
        """Last score minus first, 0 where one is missing."""
        first, last = self.samples[0].score, self.samples[-1].score
        return 0.0 if first is None or last is None else last - first


@dataclass(frozen=True)
class Samples:
    """Held-out prompts with a search box."""

    groups: tuple[SampleGroup, ...]
    kind: str = "samples"


Block = Figure | Row | Table | Note | Tiles | Folded | Samples


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading of its own."""

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = field(default=())
