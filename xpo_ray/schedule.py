"""Which prompts an iteration draws, in which shards, and which of them each optimizer step is made of (DESIGN §4.2–4.3).

Everything here is a pure function of counts and the run's seed, so a resumed run walks the same windows. The driver walks
the schedule; the trainer receives its windows; the plan counts its steps. What is held is 4 bytes per prompt, and 1 more for
each prompt of an iteration that accumulates; windows are made as they are asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from xpo_ray.seeds import seeded_order

Ints = npt.NDArray[np.int64]
Positions = tuple[Ints, Ints]
"""Iterations and, beside them, positions in their partitions, in the order of training."""
PIECE = 4096
"""Positions that are laid out at once."""


@dataclass(frozen=True)
class Slice:
    """Rows of one shard that a window is made of."""

    iteration: int
    shard: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """`batch_size` consecutive prompt positions: one optimizer step. `step` counts from 1 within the iteration."""

    iteration: int
    step: int
    epoch: int
    slices: tuple[Slice, ...]

    @property
    def prompts(self) -> int:
        return sum(len(s.rows) for s in self.slices)


@dataclass(frozen=True)
class Schedule:
    """The walk of a run over N prompts; iterations t count from 1.

    `data[t - 1]` is "accumulate" where iteration t trains on the pairs of all iterations so far. `portions` and `last_batch` as
    in the spec.
    """

    prompts: int
    seed: int
    partitions: int
    shard_size: int
    batch_size: int
    epochs: int
    data: tuple[Literal["fresh", "accumulate"], ...]
    portions: Literal["mixed", "consecutive"] = "mixed"
    last_batch: Literal["keep", "drop"] = "keep"

    @cached_property
    def _order(self) -> "npt.NDArray[np.int32]":
        if self.portions == "mixed":
            return seeded_order(range(self.prompts), self.seed, "partition").astype(np.int32)
        stretches = zip(self._bounds[:-1].tolist(), self._bounds[1:].tolist(), strict=True)
        orders = [seeded_order(range(*of), self.seed, "portion", t) for t, of in enumerate(stretches, 1)]
        return np.concatenate(orders).astype(np.int32)

    @cached_property
    def _bounds(self) -> Ints:
        """Where partitions begin in the seeded order; sizes differ by at most one, larger ones first."""
        small, larger = divmod(self.prompts, self.partitions)
        sizes = [small + 1] * larger + [small] * (self.partitions - larger)
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def size(self, t: int) -> int:
        """Prompts of partition t."""
        return int(self._bounds[t] - self._bounds[t - 1])

    def shards(self, t: int) -> int:
        """Number of shards of partition t."""
        return -(-self.size(t) // self.shard_size)

    def shard_prompts(self, t: int, shard: int) -> Ints:
        """Indices into the prompt table of one shard, in order."""
        start = int(self._bounds[t - 1]) + shard * self.shard_size
        return self._order[start : min(start + self.shard_size, int(self._bounds[t]))].astype(np.int64)

    def trained_prompts(self, t: int) -> int:
        """Prompts that one epoch of iteration t trains on."""
        first = 1 if self._accumulates(t) else t
        return int(self._bounds[t] - self._bounds[first - 1])

    def steps(self, t: int) -> int:
        """Optimizer steps of iteration t: epochs · ceil(prompts / batch size), or floor where the last batch is dropped."""
        full, rest = divmod(self.trained_prompts(t), self.batch_size)
        return self.epochs * (full + (rest > 0 and self.last_batch == "keep"))

    def total_steps(self, first: int = 1, last: int | None = None) -> int:
        """Steps of iterations first..last, by default of the whole run."""
        last = self.partitions if last is None else last
        return int(self._steps_until[last] - self._steps_until[first - 1]) if first <= last else 0

    @cached_property
    def _steps_until(self) -> Ints:
        """Steps of iterations 1..t, by t."""
        return np.cumsum([0, *(self.steps(t) for t in range(1, self.partitions + 1))], dtype=np.int64)

    def windows(self, t: int, after_step: int = 0) -> Iterator[Window]:
        """The windows of iteration t in order, without the first `after_step`."""
        step = 0
        for epoch in range(1, self.epochs + 1):
            stream = _Stream(self._epoch(t, epoch))
            while len((positions := stream.take(self.batch_size))[0]) >= self._least:
                step += 1
                if step > after_step:
                    yield Window(t, step, epoch, self._slices(*positions))

    @property
    def _least(self) -> int:
        """Prompts that make a window."""
        return self.batch_size if self.last_batch == "drop" else 1

    def _accumulates(self, t: int) -> bool:
        return self.data[t - 1] == "accumulate"

    def _epoch(self, t: int, epoch: int) -> Iterator[Positions]:
        """Every prompt of an epoch in the order of training, piece by piece."""
        if epoch > 1:
            return self._shuffled(range(1, t + 1) if self._accumulates(t) else (t,), t, epoch)
        if not self._accumulates(t) or t == 1:
            return self._in_order(t)
        return self._merged(_Stream(self._in_order(t)), _Stream(self._shuffled(range(1, t), t, epoch)), t)

    def _in_order(self, t: int) -> Iterator[Positions]:
        for start in range(0, self.size(t), PIECE):
            positions = np.arange(start, min(start + PIECE, self.size(t)))
            yield np.full(len(positions), t), positions

    def _shuffled(self, iterations: Sequence[int], t: int, epoch: int) -> Iterator[Positions]:
        """A seeded order of shards, and of rows within each, so that a window touches few shards."""
        keys = [(s, k) for s in iterations for k in range(self.shards(s))]
        for i in seeded_order(range(len(keys)), self.seed, "epoch", t, epoch):
            yield self._shuffled_shard(keys[i], t, epoch)

    def _shuffled_shard(self, key: tuple[int, int], t: int, epoch: int) -> Positions:
        s, shard = key
        start = shard * self.shard_size
        rows = range(start, min(start + self.shard_size, self.size(s)))
        positions = seeded_order(rows, self.seed, "epoch-rows", t, epoch, s, shard)
        return np.full(len(positions), s), positions

    def _merged(self, fresh: "_Stream", old: "_Stream", t: int) -> Iterator[Positions]:
        """Old pairs at seeded places among the fresh ones; both keep their own order."""
        total, olds = self.trained_prompts(t), self.trained_prompts(t) - self.size(t)
        is_old = np.zeros(total, dtype=bool)
        is_old[seeded_order(range(total), self.seed, "accumulate", t)[:olds]] = True
        for start in range(0, total, PIECE):
            mask = is_old[start : start + PIECE]
            merged = np.empty(len(mask), dtype=np.int64), np.empty(len(mask), dtype=np.int64)
            count = int(mask.sum())
            taken = fresh.take(len(mask) - count), old.take(count)
            for target, new_values, old_values in zip(merged, *taken, strict=True):
                target[mask], target[~mask] = old_values, new_values
            yield merged

    def _slices(self, iterations: Ints, positions: Ints) -> tuple[Slice, ...]:
        rows: dict[tuple[int, int], list[int]] = {}
        for s, p in zip(iterations.tolist(), positions.tolist(), strict=True):
            shard, row = divmod(p, self.shard_size)
            rows.setdefault((s, shard), []).append(row)
        return tuple(Slice(s, shard, tuple(r)) for (s, shard), r in rows.items())


class _Stream:
    """Positions that come in pieces of any length, to be taken in others."""

    def __init__(self, pieces: Iterator[Positions]) -> None:
        self._pieces = pieces
        self._rest: Positions = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Positions:
        """The next `count` positions, fewer at the end."""
        parts, have = [self._rest], len(self._rest[0])
        while have < count and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            have += len(piece[0])
        iterations, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._rest = iterations[count:], positions[count:]
        return iterations[:count], positions[:count]
