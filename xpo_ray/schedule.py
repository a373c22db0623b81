"""Which prompts an iteration draws, in which shards, and which of them each optimizer step is made of (DESIGN §4.2–4.3).

Everything here is a pure function of counts and the run's seed, so a resumed run walks the same windows. The driver walks
the schedule; the trainer receives its windows; the plan counts its steps.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from xpo_ray.seeds import seeded_order

Ints = npt.NDArray[np.int64]


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

    `data[t - 1]` is "accumulate" where iteration t trains on the pairs of all iterations so far.
    """

    prompts: int
    seed: int
    partitions: int
    shard_size: int
    batch_size: int
    epochs: int
    data: tuple[Literal["fresh", "accumulate"], ...]

    @cached_property
    def _order(self) -> Ints:
        return seeded_order(range(self.prompts), self.seed, "partition")

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
        return self._order[start : min(start + self.shard_size, int(self._bounds[t]))]

    def trained_prompts(self, t: int) -> int:
        """Prompts that one epoch of iteration t trains on."""
        first = 1 if self._accumulates(t) else t
        return int(self._bounds[t] - self._bounds[first - 1])

    def steps(self, t: int) -> int:
        """Optimizer steps of iteration t: epochs · ceil(prompts / batch size)."""
        return self.epochs * -(-self.trained_prompts(t) // self.batch_size)

    def total_steps(self, first: int = 1, last: int | None = None) -> int:
        """Steps of iterations first..last, by default of the whole run."""
        return sum(self.steps(t) for t in range(first, (self.partitions if last is None else last) + 1))

    def windows(self, t: int, after_step: int = 0) -> Iterator[Window]:
        """The windows of iteration t in order, without the first `after_step`."""
        step = 0
        for epoch in range(1, self.epochs + 1):
            iterations, positions = self._epoch(t, epoch)
            for start in range(0, len(positions), self.batch_size):
                step += 1
                if step > after_step:
                    cut = slice(start, start + self.batch_size)
                    yield Window(t, step, epoch, self._slices(iterations[cut], positions[cut]))

    def _accumulates(self, t: int) -> bool:
        return self.data[t - 1] == "accumulate"

    def _epoch(self, t: int, epoch: int) -> tuple[Ints, Ints]:
        """(iteration, position in its partition) of every prompt of an epoch, in the order of training."""
        if epoch > 1:
            return self._shuffled(range(1, t + 1) if self._accumulates(t) else (t,), t, epoch)
        fresh = np.full(self.size(t), t), np.arange(self.size(t))
        if not self._accumulates(t) or t == 1:
            return fresh
        return self._merged(fresh, self._shuffled(range(1, t), t, epoch), t)

    def _shuffled(self, iterations: Sequence[int], t: int, epoch: int) -> tuple[Ints, Ints]:
        """A seeded order of shards, and of rows within each, so that a window touches few shards."""
        keys = [(s, k) for s in iterations for k in range(self.shards(s))]
        order = seeded_order(range(len(keys)), self.seed, "epoch", t, epoch)
        parts = [self._shuffled_shard(keys[i], t, epoch) for i in order]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _shuffled_shard(self, key: tuple[int, int], t: int, epoch: int) -> tuple[Ints, Ints]:
        s, shard = key
        start = shard * self.shard_size
        rows = range(start, min(start + self.shard_size, self.size(s)))
        positions = seeded_order(rows, self.seed, "epoch-rows", t, epoch, s, shard)
        return np.full(len(positions), s), positions

    def _merged(self, fresh: tuple[Ints, Ints], old: tuple[Ints, Ints], t: int) -> tuple[Ints, Ints]:
        """Old pairs at seeded places among the fresh ones; both keep their own order."""
        total = len(fresh[0]) + len(old[0])
        places = np.sort(seeded_order(range(total), self.seed, "accumulate", t)[: len(old[0])])
        is_old = np.zeros(total, dtype=bool)
        is_old[places] = True
        merged = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
        for target, new_values, old_values in zip(merged, fresh, old, strict=True):
            target[is_old], target[~is_old] = old_values, new_values
        return merged

    def _slices(self, iterations: Ints, positions: Ints) -> tuple[Slice, ...]:
        rows: dict[tuple[int, int], list[int]] = {}
        for s, p in zip(iterations.tolist(), positions.tolist(), strict=True):
            shard, row = divmod(p, self.shard_size)
            rows.setdefault((s, shard), []).append(row)
        return tuple(Slice(s, shard, tuple(r)) for (s, shard), r in rows.items())
