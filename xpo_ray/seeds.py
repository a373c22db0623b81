"""Seeds of draws and stable seeded orders (DESIGN §4.1–4.3). Pure; the same on every machine and in every version.

Nothing here uses Python's `hash()` or a generator with a state: a seed is a hash of what it is for.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def seed_of(run_seed: int, purpose: str, *parts: int | str) -> int:
    """63-bit seed from the run's seed, a purpose (policy, reference, evaluation, …) and what is drawn.

    A draw uses (run_seed, purpose, iteration, row of the normalised dataset, sample index).
    """
    text = "\x1f".join([str(run_seed), purpose, *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seeded_order(items: Iterable[int], run_seed: int, purpose: str, *parts: int | str) -> npt.NDArray[np.int64]:
    """The items in an order that depends on the seed and purpose alone: sorted by a keyed hash of each item."""
    key = hashlib.blake2b("\x1f".join([str(run_seed), purpose, *map(str, parts)]).encode(), digest_size=32).digest()
    values = np.fromiter(items, dtype=np.int64)
    hashes = np.fromiter(
        (
            int.from_bytes(hashlib.blake2b(int(v).to_bytes(8, "big"), digest_size=8, key=key).digest(), "big")
            for v in values
        ),
        dtype=np.uint64,
        count=len(values),
    )
    ordered: npt.NDArray[np.int64] = values[np.lexsort((values, hashes))]
    return ordered
