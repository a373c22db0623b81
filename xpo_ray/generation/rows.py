"""The rows of a batch that is being drawn: which request each is, how far it is, and for `Columns` the model's next step.

The engine decides how many rows are drawn together and what they draw; `ways` which of two kinds of rows a model takes: these,
whose keys and values lie in columns that rows leave and join, or those of `own_cache`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from xpo_ray.generation.columns import column_cache, rebuilt
from xpo_ray.generation.stepper import Stepper


@dataclass(frozen=True)
class Request:
    """A prompt to draw for, and its place among the engine's requests."""

    place: int
    prompt_ids: Sequence[int]


@dataclass(kw_only=True)
class Batch(ABC):
    """B rows that get one token more at each step, those that have ended too, which nobody reads."""

    request_B: Tensor
    drawn_B: Tensor
    alive_B: Tensor
    last_B: Tensor
    living: int
    least_drawn: int = 0
    """A lower bound of drawn_B, known without looking at the device."""

    def __len__(self) -> int:
        return len(self.request_B)

    @abstractmethod
    def next_logits(self) -> Tensor:
        """Logits [B, V] of the token behind the last one, in float32."""

    def advance(self, next_B: Tensor, ended_B: Tensor) -> None:
        """Every row has a token more; some have ended with it."""
        self.last_B, self.drawn_B = next_B, self.drawn_B + 1
        self.alive_B = self.alive_B & ~ended_B
        self.living = int(self.alive_B.sum())
        self.least_drawn += 1


@dataclass(kw_only=True)
class Rows(Batch):
    """B rows whose keys and values fill the same columns."""

    stepper: Stepper
    cache: Cache
    most_drawn: int
    """Tokens that a row may draw."""
    first_B: Tensor
    """The column at which each row's prompt begins."""
    even: bool
    """Whether all rows begin at the first column, known without looking at the device."""

    @classmethod
    def begun(cls, stepper: Stepper, requests: Sequence[Request], most_drawn: int) -> tuple["Rows", Tensor]:
        """Read the prompts, each distinct one once; returns the rows and the logits [B, V] of their first tokens."""
        model = stepper.model
        device = model.device
        distinct = list(dict.fromkeys(tuple(r.prompt_ids) for r in requests))
        width = max(len(p) for p in distinct)
        first_U = torch.tensor([width - len(p) for p in distinct], device=device)
        ids_UP = torch.tensor([[0] * (width - len(p)) + list(p) for p in distinct], device=device)
        cache = column_cache(model.config.get_text_config().num_hidden_layers, most_drawn)
        columns = torch.arange(width, device=device)
        even = all(len(p) == width for p in distinct)
        mask_UP = None if even else (columns >= first_U[:, None]).long()
        logits_UV = stepper.read(ids_UP, mask_UP, (columns - first_U[:, None]).clamp(min=0), cache)
        place = {p: u for u, p in enumerate(distinct)}
        row_B = torch.tensor([place[tuple(r.prompt_ids)] for r in requests], device=device)
        if len(distinct) < len(requests):
            cache = rebuilt([(cache, row_B, 0)], most_drawn)
        request_B = torch.tensor([r.place for r in requests], device=device)
        rows = cls(
            stepper=stepper,
            cache=cache,
            most_drawn=most_drawn,
            request_B=request_B,
            first_B=first_U.index_select(0, row_B),
            drawn_B=torch.zeros_like(request_B),
            alive_B=torch.ones_like(request_B, dtype=torch.bool),
            last_B=torch.zeros_like(request_B),
            living=len(requests),
            even=even,
        )
        return rows, logits_UV.index_select(0, row_B)

    @classmethod
    def together(cls, parts: Sequence["Rows"]) -> "Rows":
        """The living rows of all parts in one batch; columns that no living row uses are left out."""
        if len(parts) == 1 and parts[0].living == len(parts[0]):
            return parts[0]
        keeps = [p.alive_B.nonzero().squeeze(-1) for p in parts]
        begins = [int(p.first_B[keep].min()) for p, keep in zip(parts, keeps, strict=True)]
        filled = max(p.filled - b for p, b in zip(parts, begins, strict=True))
        shifts = [filled - p.filled for p in parts]
        pieces = [(p.cache, keep, begin) for p, keep, begin in zip(parts, keeps, begins, strict=True)]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(p, name)[keep] for p, keep in zip(parts, keeps, strict=True)])

        return cls(
            stepper=parts[0].stepper,
            cache=rebuilt(pieces, parts[0].most_drawn),
            most_drawn=parts[0].most_drawn,
            request_B=joined("request_B"),
            first_B=torch.cat([p.first_B[k] + s for p, k, s in zip(parts, keeps, shifts, strict=True)]),
            drawn_B=joined("drawn_B"),
            alive_B=joined("alive_B"),
            last_B=joined("last_B"),
            living=sum(p.living for p in parts),
            least_drawn=min(p.least_drawn for p in parts),
            even=all(p.even for p in parts) and not any(shifts),
        )

    @property
    def filled(self) -> int:
        """Columns in use."""
        length: int = self.cache.layers[0].get_seq_length()
        return length

    def next_logits(self) -> Tensor:
        """Logits [B, V] of the token behind the last one, in float32.

        Rows that have ended stand at position 0: beside rows that joined late they would leave a table of positions.
        """
        position_B = (self.filled - self.first_B) * self.alive_B
        return self.stepper.next_logits(self.last_B, position_B, self.cache, None if self.even else self._sees())

    def _sees(self) -> Tensor:
        """Which columns each row sees [B, columns], that of its next token included."""
        return torch.arange(self.filled + 1, device=self.first_B.device) >= self.first_B[:, None]


@dataclass(frozen=True)
class Columns:
    """The way of models whose layers keep a key and a value of each token: rows leave and join at any time."""

    stepper: Stepper
    joins = True

    def joining(self, waiting: Sequence[Request], rows: Batch | None) -> Sequence[Request]:  # noqa: ARG002 - a `Way`
        """Those of the waiting, for whom there is room, that may be read now."""
        return waiting

    def begun(self, requests: Sequence[Request], most_drawn: int) -> tuple[Rows, Tensor]:
        """Rows that have read their prompts, and the logits of their first tokens."""
        return Rows.begun(self.stepper, requests, most_drawn)

    def together(self, parts: Sequence[Rows]) -> Rows:
        """The living rows of all parts as one batch."""
        return Rows.together(parts)
