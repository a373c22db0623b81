"""JSON from strangers: parsed without guessing, and numbers read from it. Raises Unreadable.

NaN and infinities, which Python servers write though JSON has none, are missing scores.
"""

import json
import math
from typing import Any

from xpo_ray.judges.remote.outcomes import Unreadable


def parsed(body: bytes | str) -> Any:
    """The JSON value; a key that stands twice in an object leaves open which is meant."""
    try:
        return json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Unreadable(
            f"the answer is not JSON ({error})" if not isinstance(error, Unreadable) else str(error)
        ) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise Unreadable("the answer has a key twice in one object")
    return out


def number(value: Any, what: str) -> float | None:
    """A finite number, or None for null, NaN and infinities."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unreadable(f"{what} is {value!r:.80}; expected a number or null")
    try:
        out = float(value)
    except OverflowError:
        return None
    return out if math.isfinite(out) else None


def numbers(value: Any, count: int, what: str) -> tuple[float | None, ...]:
    """So many numbers, of which at least one is there."""
    if not isinstance(value, list) or len(value) != count:
        got = f"{len(value)} items" if isinstance(value, list) else f"{type(value).__name__} {value!r:.80}"
        raise Unreadable(f"{what}: expected a list of {count} numbers, got {got}")
    return tuple(number(item, f"{what}[{i}]") for i, item in enumerate(value))
