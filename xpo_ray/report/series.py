"""Numbers for figures, small however long the run: thinned lines, histograms, sorted curves, merged spans. Pure."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Item = TypeVar("Item")
MAX_POINTS = 2000


def thinned(x: Floats, y: Floats, limit: int = MAX_POINTS) -> tuple[Floats, Floats]:
    """At most `limit` points of a line; of each stretch the lowest and the highest stay, so that no spike is lost."""
    if len(x) <= limit:
        return x, y
    kept: set[int] = {0, len(x) - 1}
    for part in np.array_split(np.arange(len(x)), (limit - 2) // 2):
        known = part[~np.isnan(y[part])]
        if len(known):
            kept |= {int(known[np.argmin(y[known])]), int(known[np.argmax(y[known])])}
    index = np.array(sorted(kept))
    return x[index], y[index]


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    places = np.linspace(0, len(items) - 1, limit).round().astype(int)
    return [items[i] for i in dict.fromkeys(places.tolist())]


def bin_edges(samples: Iterable[Floats], bins: int = 30) -> Floats:
    """Edges over all samples at once, so that their histograms can be compared; outliers beyond 0.1 % end in the outer bins."""
    values = np.concatenate([s[~np.isnan(s)] for s in samples])
    low, high = np.quantile(values, [0.001, 0.999])
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def shares(values: Floats, edges: Floats) -> Floats:
    """Share of the values in each bin, in percent; what lies outside counts in the outer bins."""
    known = values[~np.isnan(values)]
    counts, _ = np.histogram(np.clip(known, edges[0], edges[-1]), edges)
    return 100.0 * counts / max(len(known), 1)


def sorted_curve(values: Floats, limit: int = 400) -> tuple[Floats, Floats]:
    """Values in ascending order over the share of prompts in percent; long ones as quantiles."""
    known = np.sort(values[~np.isnan(values)])
    if len(known) <= limit:
        return 100.0 * (np.arange(len(known)) + 0.5) / max(len(known), 1), known
    share = np.linspace(0.0, 1.0, limit)
    return 100.0 * share, np.quantile(known, share)


def merged(spans: Iterable[tuple[float, float]], gap: float = 0.0) -> list[tuple[float, float]]:
    """The union of spans of time, in order; those less than `gap` apart become one."""
    out: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if out and start <= out[-1][1] + gap:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def total(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans."""
    return sum(end - start for start, end in merged(spans))
