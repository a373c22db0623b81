"""Charts against Plotly's own schema, and what they keep of the numbers."""

import json
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from xpo_ray.report.charts import Chart, Line, Ridge, intervals, lines, ramp, ridges, stacked_bars, timeline

X = np.arange(4.0)


def coloured(value: Any) -> Any:
    """The chart with a colour for each name of one, as the page resolves them."""
    if isinstance(value, str) and value.startswith("@"):
        return "rgba(1,2,3,0.5)"
    if isinstance(value, dict):
        return {k: coloured(v) for k, v in value.items()}
    return [coloured(v) for v in value] if isinstance(value, list) else value


CHARTS: dict[str, Chart] = {
    "lines": lines(
        [Line("a", X, X, "@draw"), Line("b", X, X, "@warn", markers=True)], "x", "y", rules=[1.5], zero=True
    ),
    "log": lines([Line("a", X, X + 1, "@draw")], "x", "y", log=True, percent=True),
    "intervals": intervals([Line("a", X, X, "@draw", X - 1, X + 1, dash="dot")], "x", "y", ticks=X.tolist()),
    "ridges": ridges([Ridge("a", np.array([60.0, 40.0]), 0.4, "@base")], np.array([0.0, 1.0, 2.0]), "x"),
    "bars": stacked_bars(["1", "2"], [("pairs", [3.0, 4.0], "@draw")], "x", "y"),
    "timeline": timeline([("draw", [(0.0, 60.0), (120.0, 7200.0)], "@draw")], [0.0], whole=7200.0),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_one_that_plotly_knows_and_json_can_hold(name: str) -> None:
    chart = CHARTS[name]
    assert json.loads(json.dumps(chart, allow_nan=False)).keys() == chart.keys()
    drawn = go.Figure(coloured(chart), skip_invalid=False)
    assert len(drawn.data) == len(chart["data"]) > 0


def test_what_is_not_a_number_leaves_a_gap() -> None:
    chart = lines([Line("a", X, np.array([1.0, np.nan, np.inf, 4.0]), "@draw")], "x", "y")
    assert chart["data"][0]["y"] == [1.0, None, None, 4.0]


def test_error_bars_reach_from_the_mean_to_both_ends() -> None:
    chart = intervals([Line("a", X, X, "@draw", X - 1, X + 2)], "x", "y")
    error = chart["data"][0]["error_y"]
    assert (error["arrayminus"], error["array"]) == ([1.0] * 4, [2.0] * 4)


def test_ridges_stand_on_one_scale_and_show_the_shares_they_were_given() -> None:
    rows = [Ridge("first", np.array([100.0, 0.0]), 0.5, "@a"), Ridge("second", np.array([50.0, 50.0]), 1.0, "@b")]
    data = ridges(rows, np.array([0.0, 1.0, 2.0]), "score")["data"]
    assert max(data[0]["y"]) - 1.0 == pytest.approx(0.88)  # stands on the upper floor
    assert max(data[2]["y"]) == pytest.approx(0.44)
    assert data[2]["customdata"] == [0.0, 50.0, 50.0, 50.0, 50.0, 0.0]
    assert [data[1]["x"], data[3]["x"]] == [[0.5], [1.0]]


def test_a_time_line_is_told_in_a_unit_that_fits() -> None:
    def drawn(whole: float) -> tuple[str, list[float]]:
        chart = timeline([("draw", [(0.0, 360.0)], "@draw")], [], whole=whole)
        return chart["layout"]["xaxis"]["title"]["text"].rsplit(", ", 1)[1], chart["data"][0]["x"]

    assert [drawn(w) for w in (400.0, 900.0, 20_000.0)] == [("s", [360.0]), ("min", [6.0]), ("h", [0.1])]


def test_models_go_from_grey_to_the_strongest_colour() -> None:
    assert [ramp(i, 4) for i in range(4)] == ["@base", "@ramp-1", "@ramp-3", "@ramp-6"]
    assert [ramp(i, 2) for i in range(2)] == ["@base", "@ramp-6"]
    assert [ramp(i, 7) for i in range(1, 7)] == [f"@ramp-{k}" for k in range(1, 7)]
