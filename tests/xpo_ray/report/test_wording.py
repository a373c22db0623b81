"""Numbers as a reader sees them."""

import math

import pytest

from xpo_ray.report.wording import counted, duration, fixed, number, percent, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0.0, "0"),
        (3.0, "3"),
        (5.9258, "5.93"),
        (-0.04567, "−0.0457"),
        (63_609.2, "63,609"),
        (2e-4, "2.00e-4"),
        (1.5e7, "1.50e7"),
        (-2e-4, "−2.00e-4"),
    ],
)
def test_a_number_has_three_digits_and_a_true_minus(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_difference_carries_its_sign() -> None:
    assert [signed(v) for v in (0.5, -0.5, 0.0, None)] == ["+0.500", "−0.500", "0", "–"]


def test_columns_have_fixed_decimals_and_shares_a_unit() -> None:
    assert [fixed(6.0), fixed(-1.4), fixed(None)] == ["6.00", "−1.40", "–"]
    assert [percent(0.776), percent(None)] == ["77.6\u00a0%", "–"]


def test_time_is_told_in_its_two_largest_units() -> None:
    told = [duration(s) for s in (3.14, 27.2, 125.0, 3 * 3600 + 240, 2 * 86400 + 3600 * 5, None)]
    assert told == ["3.1 s", "27 s", "2 min 05 s", "3 h 04 min", "2 d 5 h", "–"]


def test_nouns_follow_their_count() -> None:
    assert [counted(1, "step"), counted(0, "step"), counted(1200, "step")] == ["1 step", "0 steps", "1,200 steps"]
