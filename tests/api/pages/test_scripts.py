"""The pages' pure parts, run in Chromium and held against other implementations or counted by hand."""

from itertools import pairwise
from typing import Any

import pytest
import yaml

from tests.api.pages.conftest import Visits
from tests.api.pages.visiting import Visit
from xpo_ray.api.pages.assets import assets

pytestmark = pytest.mark.browser


@pytest.fixture
def window(visit: Visits) -> Visit:
    return visit("/login")


def call(window: Visit, script: str, function: str, *arguments: Any) -> Any:
    """A function of a script with plain values."""
    code = f"async (given) => (await import('/static/{assets().version}/{script}')).{function}(...given)"
    return window.page.evaluate(code, list(arguments))


def test_a_spec_as_yaml_reads_back_as_the_same_spec(window: Visit) -> None:
    doubtful = [
        "yes",
        "No",
        "null",
        "1e3",
        "1.0",
        "a: b",
        "# no",
        "- x",
        " padded ",
        "",
        "~",
        "@x",
        "two\nlines",
        "é\u2028",
        "0x1f",
    ]
    spec = {
        "name": "by-hand",
        "data": {"source": {"kind": "files", "path": "./a b/c.parquet"}, "limits": [], "more": {}},
        "algorithm": {"alpha": [0.01, 1e-05, 3], "schedule": None, "on": True, "big": 1e21},
        "judge": {
            "members": [{"kind": "python", "weight": 1.5}, {"kind": "http", "tags": ["a", "yes"]}],
            "doubtful": doubtful,
        },
    }
    assert yaml.safe_load(call(window, "run/yaml.js", "yaml", spec)) == spec


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0.001, 0.0013), (1e5, 9e5), (-1e-9, 1e-9)])
def test_ticks_are_round_lie_within_the_axis_and_are_few(window: Visit, low: float, high: float) -> None:
    marks = call(window, "scale.js", "ticks", [low, high], 4)["at"]
    steps = [b - a for a, b in pairwise(marks)]
    assert 2 <= len(marks) <= 9
    assert all(low - 1e-12 <= mark <= high + 1e-12 for mark in marks)
    assert max(steps) - min(steps) < 1e-6 * max(steps)


def test_a_thinned_line_keeps_its_spikes_and_its_order(window: Visit) -> None:
    points = [{"x": n, "y": 100.0 if n == 7777 else -50.0 if n == 1234 else (n % 17) / 17} for n in range(10_000)]
    kept = call(window, "scale.js", "thinned", points, 300)
    assert len(kept) <= 600
    assert {"x": 7777, "y": 100.0} in kept
    assert {"x": 1234, "y": -50.0} in kept
    assert [p["x"] for p in kept] == sorted({p["x"] for p in kept})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (600, "10 min"),
        (7322, "2 h 2 min"),
        (190_000, "2 d 4 h"),
        (None, "–"),
    ],
)
def test_durations_take_two_units(window: Visit, seconds: float | None, words: str) -> None:
    assert call(window, "format.js", "duration", seconds) == words


def test_numbers_have_three_digits_and_a_true_minus(window: Visit) -> None:
    shown = [call(window, "format.js", "number", x) for x in (0, 0.6931, -12.345, 1234567, 0.00004, 42, None)]
    assert shown == ["0", "0.693", "−12.3", "1.23e+6", "4.00e−5", "42", "–"]


def test_unseen_characters_become_their_numbers_and_others_stay(window: Visit) -> None:
    text = "a\u202eb\u200bc\u2066d\ufeffe\x07f\tg\nh\U000e0041 שלום é 😀"
    expected = "aU+202EbU+200BcU+2066dU+FEFFeU+0007f\tg\nhU+E0041 שלום é 😀"
    assert call(window, "dom.js", "plain", text) == expected
