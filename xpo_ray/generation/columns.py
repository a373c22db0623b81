"""Keys and values of the rows that are being drawn, in buffers made beforehand: a new token is written, nothing is copied.

    column     0 … first-1      first … filled-1          filled … width-1
    row        zeros, masked    prompt and drawn tokens   not yet used, never looked at

All rows are filled up to the same column, so that one step of the model serves them all. Rows leave and new ones join when
the buffers are rebuilt. transformers' own static cache attends to its whole width, and its dynamic one copies at each token.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer


class ColumnLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """One layer of the cache: keys and values [rows, heads, width, head size], of which `filled` columns are in use."""

    def __init__(self, spare: int) -> None:
        super().__init__()
        self.is_initialized = False
        self.spare = spare
        """Columns that the buffers get beyond the first update."""
        self.filled = 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write new columns; returns all that are in use."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.keys, self.values = (_with_room(x, self.spare) for x in (key_states, value_states))
            self.is_initialized = True
        else:
            stop = self.filled + key_states.shape[-2]
            self.keys[:, :, self.filled : stop] = key_states
            self.values[:, :, self.filled : stop] = value_states
        self.filled += key_states.shape[-2]
        return self.keys[:, :, : self.filled], self.values[:, :, : self.filled]

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.filled


def column_cache(layers: int, spare: int) -> Cache:
    """An empty cache whose buffers will have `spare` columns more than the first update brings."""
    return Cache(layers=[ColumnLayer(spare) for _ in range(layers)])


def rebuilt(parts: Sequence[tuple[Cache, Tensor, int]], spare: int) -> Cache:
    """A cache of the rows `keep` of each part, whose columns before `begin` are left out; (cache, keep, begin) each.

    All rows end at the same column; shorter ones begin with zeros.
    """
    layers: list[CacheLayerMixin] = []
    for pieces in zip(*(cache.layers for cache, _, _ in parts), strict=True):
        if not pieces[0].is_initialized:  # it reads another layer's keys and values
            layers.append(ColumnLayer(spare))
            continue
        taken = [
            tuple(x.index_select(0, keep)[:, :, begin : layer.filled] for x in (layer.keys, layer.values))
            for layer, (_, keep, begin) in zip(pieces, parts, strict=True)
        ]
        made = ColumnLayer(spare)
        made.update(_ending_together([k for k, _ in taken]), _ending_together([v for _, v in taken]))
        layers.append(made)
    return Cache(layers=layers)


def _with_room(states: Tensor, spare: int) -> Tensor:
    rows, heads, columns, size = states.shape
    buffer = states.new_empty(rows, heads, columns + spare, size)
    buffer[:, :, :columns] = states
    return buffer


def _ending_together(parts: Sequence[Tensor]) -> Tensor:
    """Rows of different widths, padded with zeros at the beginning: what is masked must still be a number."""
    if len(parts) == 1:
        return parts[0]
    width = max(p.shape[2] for p in parts)
    return torch.cat([torch.nn.functional.pad(p, (0, 0, width - p.shape[2], 0)) for p in parts])
