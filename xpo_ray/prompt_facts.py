"""What two prompt tables say of each other and of themselves: prompts that stand twice, held-out prompts that are trained on.

`xpo-ray validate --deep` tells it. Prompts are compared as token ids, which is how the model sees them.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Repeats:
    """Prompts of a table that stand in it, or in another one, before."""

    count: int
    first: tuple[int, int] | None
    """Positions in the tables: of the first such prompt, and of the prompt that it is equal to."""


def equal_prompts(prompts: pa.Table) -> Repeats:
    """Prompts that are equal to an earlier one."""
    known: dict[bytes, int] = {}
    first, count = None, 0
    for position, key in enumerate(_keys(prompts)):
        earlier = known.setdefault(key, position)
        if earlier != position:
            first, count = first or (position, earlier), count + 1
    return Repeats(count, first)


def overlap(held_out: pa.Table, prompts: pa.Table) -> Repeats:
    """Held-out prompts that are trained on."""
    known = {key: position for position, key in reversed(list(enumerate(_keys(held_out))))}
    found: dict[bytes, tuple[int, int]] = {}
    for position, key in enumerate(_keys(prompts)):
        if key in known:
            found.setdefault(key, (known[key], position))
    count = sum(key in found for key in _keys(held_out)) if found else 0
    return Repeats(count, min(found.values(), default=None))


def _keys(prompts: pa.Table) -> Iterator[bytes]:
    """A hash of each prompt's ids."""
    for chunk in prompts["prompt_ids"].chunks:
        ids = chunk.values.to_numpy(zero_copy_only=False)
        for begin, end in zip(np.asarray(chunk.offsets)[:-1], np.asarray(chunk.offsets)[1:], strict=True):
            yield hashlib.blake2b(ids[begin:end].tobytes(), digest_size=16).digest()
