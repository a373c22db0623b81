"""How long to wait before the next try of a request. Pure, but for the jitter's generator, which the caller passes."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from xpo_ray.spec.remote_judge import LONGEST_PAUSE_S

FIRST_PAUSE_S = 0.5


def pause_s(tries: int, jitter: random.Random) -> float:
    """Seconds after so many failed tries: about ½, 1, 2, 4, … up to LONGEST_PAUSE_S, each times a number between ½ and 1."""
    return min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S) * jitter.uniform(0.5, 1.0)


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """What a Retry-After asks for (RFC 9110 §10.2.3: seconds or a date), in seconds; None where it says nothing usable."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
