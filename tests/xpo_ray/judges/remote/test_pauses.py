"""Pauses between tries, and what a Retry-After asks for."""

import random
from datetime import UTC, datetime

import pytest

from xpo_ray.judges.remote.pauses import pause_s, retry_after_s

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(("tries", "longest"), [(1, 0.5), (2, 1.0), (4, 4.0), (9, 30.0), (60, 30.0)])
def test_pauses_double_up_to_a_limit_and_jitter_takes_up_to_half(tries: int, longest: float) -> None:
    drawn = [pause_s(tries, random.Random(seed)) for seed in range(50)]
    assert all(longest / 2 <= pause <= longest for pause in drawn)
    assert len(set(drawn)) == 50


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Fri, 02 Jan 2026 12:00:30 GMT", 30.0),
        ("Fri, 02 Jan 2026 11:00:00 GMT", 0.0),
        (None, None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, 999999999999.0),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_anything_else_says_nothing(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_s(header, NOON) == seconds
