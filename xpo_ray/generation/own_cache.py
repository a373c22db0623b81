"""Rows that are drawn with the model's own cache: recurrent and convolution states, layers that keep what columns cannot.

The model makes its cache at its first call, and takes it back at each step. Rows begin together and nobody joins them; prompts
of several lengths are padded on the left where the model was seen to take that, else those of one length are drawn together, or
each by itself.
`ways` tries all of it beside the model's own pass without a cache.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache

from xpo_ray.errors import ModelError
from xpo_ray.generation.rows import Batch, Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CACHES = ("past_key_values", "cache_params", "state")
"""What transformers' models call the cache that they give and take."""


@dataclass(frozen=True)
class OwnCache:
    """The way of models that keep more, or other things, than a key and a value of each token."""

    model: "PreTrainedModel"
    pads: bool
    """Whether prompts of several lengths may stand beside each other."""
    selects: bool
    """Whether rows can be taken out of the cache, or stand in it several times."""
    alone: bool = False
    """Whether a row stands in its batch by itself."""
    joins = False

    def joining(self, waiting: Sequence[Request], rows: Batch | None) -> Sequence[Request]:
        """Those of the waiting, for whom there is room, that may be read now; they come by falling length."""
        if rows is not None:
            return []
        if self.pads or self.alone:
            return waiting[:1] if self.alone else waiting
        return [r for r in waiting if len(r.prompt_ids) == len(waiting[0].prompt_ids)]

    def begun(self, requests: Sequence[Request], most_drawn: int) -> tuple["OwnRows", Tensor]:  # noqa: ARG002 - a `Way`
        """Rows that have read their prompts, and the logits [B, V] of their first tokens."""
        return OwnRows.begun(self, requests)

    def together(self, parts: Sequence["OwnRows"]) -> "OwnRows":
        """The living rows, where the others can be taken out."""
        (rows,) = parts
        return rows.kept(rows.alive_B.nonzero().squeeze(-1)) if self.selects and rows.living < len(rows) else rows

    def call(
        self, ids_BT: Tensor, first_B: Tensor, cache: Mapping[str, Any], filled: int
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits [B, V] behind the tokens, in float32, and the cache with them in it. Raises ModelError."""
        place_T = torch.arange(filled, filled + ids_BT.shape[1], device=ids_BT.device)
        given: dict[str, Any] = {"input_ids": ids_BT, "use_cache": True, **cache}
        if takes(self.model, "position_ids"):
            given["position_ids"] = (place_T - first_B[:, None]).clamp(min=0)
        if takes(self.model, "logits_to_keep"):
            given["logits_to_keep"] = 1
        if self.pads and takes(self.model, "attention_mask"):
            columns = torch.arange(filled + ids_BT.shape[1], device=ids_BT.device)
            given["attention_mask"] = (columns >= first_B[:, None]).long()
        out = self.model(**given)
        made = {name: out[name] for name in CACHES if out.get(name) is not None}
        if not made:
            raise ModelError(f"{type(self.model).__name__} gives back no cache to draw with")
        logits: Tensor = out.logits[:, -1].float()
        return logits, made


@dataclass(kw_only=True)
class OwnRows(Batch):
    """B rows that began together."""

    way: OwnCache
    cache: dict[str, Any]
    first_B: Tensor
    """The column at which each row's prompt begins."""
    filled: int
    """Columns in use."""

    @classmethod
    def begun(cls, way: OwnCache, requests: Sequence[Request]) -> tuple["OwnRows", Tensor]:
        """Read the prompts, each distinct one once where its row can be repeated."""
        device = way.model.device
        prompts = [tuple(r.prompt_ids) for r in requests]
        distinct = list(dict.fromkeys(prompts)) if way.selects else prompts
        width = max(map(len, distinct))
        first_U = torch.tensor([width - len(p) for p in distinct], device=device)
        ids_UP = torch.tensor([[0] * (width - len(p)) + list(p) for p in distinct], device=device)
        logits_UV, cache = way.call(ids_UP, first_U, {}, 0)
        rows = cls(
            way=way,
            cache=cache,
            first_B=first_U,
            filled=width,
            request_B=torch.arange(len(distinct), device=device),
            drawn_B=torch.zeros_like(first_U),
            alive_B=torch.ones_like(first_U, dtype=torch.bool),
            last_B=torch.zeros_like(first_U),
            living=len(distinct),
        )
        if len(distinct) < len(requests):
            place = {p: u for u, p in enumerate(distinct)}
            row_B = torch.tensor([place[p] for p in prompts], device=device)
            rows, logits_UV = rows.kept(row_B), logits_UV.index_select(0, row_B)
        rows.request_B = torch.tensor([r.place for r in requests], device=device)
        return rows, logits_UV

    def kept(self, row_R: Tensor) -> "OwnRows":
        """Some of the rows, or one several times."""
        chosen: dict[str, Any] = {
            n: getattr(self, n)[row_R] for n in ("request_B", "drawn_B", "alive_B", "last_B", "first_B")
        }
        living = int(chosen["alive_B"].sum())
        return replace(self, cache={n: selected(c, row_R) for n, c in self.cache.items()}, living=living, **chosen)

    def next_logits(self) -> Tensor:
        """Logits [B, V] of the token behind the last one, in float32."""
        logits, self.cache = self.way.call(self.last_B[:, None], self.first_B, self.cache, self.filled)
        self.filled += 1
        return logits


def takes(model: "PreTrainedModel", name: str) -> bool:
    """Whether a model's forward pass names this argument."""
    kind: type = type(model)
    return name in _arguments(kind)


@cache
def _arguments(kind: type) -> frozenset[str]:
    forward: Any = kind.forward  # type: ignore[attr-defined]  # all models have one
    return frozenset(inspect.signature(forward).parameters)


def selected(cache: Any, row_R: Tensor) -> Any:
    """A cache with some of its rows."""
    if isinstance(cache, Cache):
        cache.reorder_cache(row_R)
        return cache
    return [state.index_select(0, row_R) for state in cache]


def tensors_in(cache: Any) -> Iterator[Tensor]:
    """All tensors of a cache, wherever they lie in it."""
    if isinstance(cache, Tensor):
        yield cache
    elif isinstance(cache, list | tuple):
        for x in cache:
            yield from tensors_in(x)
    elif isinstance(cache, Mapping):
        yield from tensors_in(list(cache.values()))
    elif hasattr(cache, "__dict__"):
        yield from tensors_in(vars(cache))
