"""How draws become the CANDIDATES of a shard: columns of lists laid beside each other, row by row, in Arrow throughout.

Engines make drawn columns, the clerk lays them together; no row becomes a Python object here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from xpo_ray.shards import CANDIDATE, CANDIDATES

CANDIDATE_LISTS = pa.list_(CANDIDATE)
DRAWN = pa.schema([pa.field("candidates", CANDIDATE_LISTS, nullable=False)])


def drawn_table(drawn: Sequence[Sequence[dict[str, Any]]]) -> pa.Table:
    """Draws as a table of one column; row i belongs to the i-th prompt that was drawn for."""
    return pa.table([pa.array([list(row) for row in drawn], CANDIDATE_LISTS)], schema=DRAWN)


def complete_candidates(shard: pa.Table, drawn: Sequence[pa.Table], *, dataset_candidates: bool) -> pa.Table:
    """PROMPTS → CANDIDATES: the draws in the order given, behind them the dataset's chosen and rejected where they take
    part. Each table of `drawn` has a row for each of the shard's."""
    columns = [_lists(table["candidates"]) for table in drawn]
    if dataset_candidates:
        columns += [_dataset(shard, origin) for origin in ("chosen", "rejected")]
    kept = {name: shard[name] for name in CANDIDATES.names if name != "candidates"}
    return pa.table([*kept.values(), _beside(columns, shard.num_rows)], schema=CANDIDATES)


def _lists(column: pa.ChunkedArray) -> pa.ListArray:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _dataset(shard: pa.Table, origin: str) -> pa.ListArray:
    """One candidate for each row: the dataset's answer."""
    rows = shard.num_rows
    values: dict[str, Any] = {
        "origin": pa.array([origin] * rows, pa.string()),
        "sample": pa.array(np.zeros(rows, np.int32)),
        "version": pa.array(np.full(rows, -1, np.int32)),
        "text": shard[origin].combine_chunks(),
        "ids": shard[f"{origin}_ids"].combine_chunks(),
        "ended": shard[f"{origin}_ended"].combine_chunks(),
    }
    structs = pa.StructArray.from_arrays([values[f.name] for f in CANDIDATE], fields=list(CANDIDATE))
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), structs)


def _beside(columns: Sequence[pa.ListArray], rows: int) -> pa.ListArray:
    """Row i of the result is row i of the first column, then of the second, and so on."""
    lengths_CN = np.array([c.value_lengths().to_numpy() for c in columns], dtype=np.int64).reshape(len(columns), rows)
    values = pa.concat_arrays([c.flatten() for c in columns]) if columns else pa.array([], CANDIDATE)
    begins_CN = (lengths_CN.ravel().cumsum() - lengths_CN.ravel()).reshape(lengths_CN.shape)
    order = _ranges(begins_CN.T.ravel(), lengths_CN.T.ravel())
    offsets = np.concatenate([[0], lengths_CN.sum(axis=0).cumsum()]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.take(pa.array(order)), type=CANDIDATE_LISTS)


def _ranges(begins: "np.ndarray[Any, np.dtype[np.int64]]", lengths: "np.ndarray[Any, np.dtype[np.int64]]") -> Any:
    """begin, begin + 1, …, begin + length − 1 of each, one after the other."""
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + np.repeat(begins - (ends - lengths), lengths)
