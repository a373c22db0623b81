"""Charts in Plotly's JSON. Colours are names of CSS variables (`@draw`, `@draw/0.2`); the page resolves and re-resolves them.

The sections of the report call these. No Plotly is imported: a test holds every chart against its schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpo_ray.report.series import Floats, thinned

Chart = dict[str, Any]
STAGE_COLOURS = {
    "candidates": "@draw",
    "preferences": "@judge",
    "scored": "@reference",
    "train": "@train",
    "held-out": "@evaluate",
}
MAX_RULES = 30
TIME_UNITS = (("h", 3600.0, 10800.0), ("min", 60.0, 600.0), ("s", 1.0, 0.0))
MAX_TICKS = 12


@dataclass(frozen=True)
class Line:
    """A named line with its colour; `low` and `high` bound its interval where it has one."""

    name: str
    x: Floats
    y: Floats
    colour: str
    low: Floats | None = None
    high: Floats | None = None
    dash: str = "solid"
    markers: bool = False
    unit: str = ""


def ramp(position: int, count: int) -> str:
    """Colour of the model at a position among `count` in order of training: the base is grey, the last one strongest."""
    if position == 0:
        return "@base"
    return f"@ramp-{6 if count < 3 else 1 + round(5 * (position - 1) / (count - 2))}"


def lines(series: Sequence[Line], x: str, y: str, **options: Any) -> Chart:
    """Lines over a common axis."""
    traces = [trace for line in series for trace in _traces(line)]
    return {"data": traces, "layout": layout(x, y, legend=len(series) > 1, **options)}


def intervals(series: Sequence[Line], x: str, y: str, **options: Any) -> Chart:
    """Points with error bars, joined; for few points, each with its 95 % interval."""
    traces = []
    for line in series:
        trace = _trace(line, mode="lines+markers")
        trace["marker"] = {"size": 7, "color": line.colour}
        if line.low is not None and line.high is not None:
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": _values(line.high - line.y),
                "arrayminus": _values(line.y - line.low),
                "color": line.colour,
                "thickness": 1.2,
                "width": 4,
            }
        traces.append(trace)
    return {"data": traces, "layout": layout(x, y, legend=len(series) > 1, **options)}


@dataclass(frozen=True)
class Ridge:
    """A histogram among others: its name, shares per bin in percent, mean, and colour."""

    name: str
    shares: Floats
    mean: float
    colour: str


def ridges(rows: Sequence[Ridge], edges: Floats, x: str) -> Chart:
    """Histograms under each other on one axis and one scale, the first at the top; a dot marks each mean."""
    highest = max(float(row.shares.max()) for row in rows)
    traces: list[Chart] = []
    for place, row in enumerate(rows):
        floor = float(len(rows) - 1 - place)
        traces += [_ridge(row, edges, floor, 0.88 / highest), _mean_of(row, floor)]
    drawn = layout(x, "", legend=False, hover="closest")
    drawn["height"] = max(320, 84 + 38 * len(rows))
    drawn["yaxis"] |= {
        "tickmode": "array",
        "tickvals": [float(len(rows) - 1 - place) for place in range(len(rows))],
        "ticktext": [row.name for row in rows],
        "range": [-0.12, len(rows)],
        "ticklabelstandoff": 6,
    }
    return {"data": traces, "layout": drawn}


def _ridge(row: Ridge, edges: Floats, floor: float, scale: float) -> Chart:
    """The outline of a histogram that stands on a floor, filled; the hover tells its shares."""
    heights = np.concatenate([[0.0], np.repeat(row.shares, 2), [0.0]])
    return {
        "type": "scatter",
        "mode": "lines",
        "name": row.name,
        "x": _values(np.repeat(edges, 2)),
        "y": _values(floor + scale * heights),
        "customdata": _values(heights),
        "fill": "toself",
        "fillcolor": f"{row.colour}/0.28",
        "hoveron": "points",
        "line": {"color": row.colour, "width": 1.5},
        "hovertemplate": "%{customdata:.1f} % at %{x:.3~g}",
    }


def _mean_of(row: Ridge, floor: float) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": row.name,
        "x": _values(np.array([row.mean])),
        "y": [floor],
        "marker": {"color": row.colour, "size": 9, "line": {"color": "@paper", "width": 1.5}},
        "hovertemplate": "mean %{x:.4~g}",
    }


def stacked_bars(labels: Sequence[str], parts: Sequence[tuple[str, Sequence[float], str]], x: str, y: str) -> Chart:
    """Parts of a whole per label."""
    traces = [
        {"type": "bar", "name": name, "x": list(labels), "y": list(values), "marker": {"color": colour}}
        for name, values, colour in parts
    ]
    drawn = layout(x, y, legend=True) | {"barmode": "stack", "bargap": 0.35}
    drawn["xaxis"]["type"] = "category"
    return {"data": traces, "layout": drawn}


def timeline(
    rows: Sequence[tuple[str, Sequence[tuple[float, float]], str]], rules: Sequence[float], whole: float
) -> Chart:
    """Spans of work in seconds, one row per stage; thin rules stand where iterations begin; `whole` decides on the unit."""
    unit, size = next((unit, size) for unit, size, least in TIME_UNITS if whole >= least)
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label,
            "y": [label] * len(spans),
            "base": [round(start / size, 4) for start, _ in spans],
            "x": [round((end - start) / size, 4) for start, end in spans],
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": f"%{{base:.1f}} {unit}, for %{{x:.2~f}} {unit}<extra>{label}</extra>",
        }
        for label, spans, colour in rows
    ]
    drawn = layout(
        f"time since the start, {unit}", "", legend=False, hover="closest", rules=[at / size for at in rules]
    )
    drawn |= {"barmode": "overlay", "bargap": 0.35, "height": 230}
    drawn["yaxis"] |= {"autorange": "reversed", "showgrid": False, "ticklabelstandoff": 6}
    drawn["xaxis"]["rangemode"] = "tozero"
    return {"data": traces, "layout": drawn}


def layout(
    x: str,
    y: str,
    *,
    legend: bool,
    ticks: Sequence[float] = (),
    log: bool = False,
    zero: bool = False,
    hover: str = "x unified",
    rules: Sequence[float] = (),
    percent: bool = False,
) -> Chart:
    """Axes with their units; the page adds fonts, margins and grid."""
    xaxis: Chart = {"title": {"text": x}, "zeroline": False}
    if 0 < len(ticks) <= MAX_TICKS:
        xaxis |= {"tickmode": "array", "tickvals": list(ticks)}
    yaxis: Chart = {"title": {"text": y}, "zeroline": zero}
    if log:
        yaxis |= {"type": "log"}
    if percent:
        yaxis |= {"tickformat": ".0%"}
    drawn: Chart = {"xaxis": xaxis, "yaxis": yaxis, "showlegend": legend, "hovermode": hover, "height": 320}
    if 0 < len(rules) <= MAX_RULES:
        drawn["shapes"] = [
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "layer": "below",
                "line": {"color": "@rule", "width": 1, "dash": "dot"},
            }
            for at in rules
        ]
    return drawn


def _traces(line: Line) -> list[Chart]:
    x, y = thinned(line.x, line.y)
    main = _trace(Line(line.name, x, y, line.colour, dash=line.dash, unit=line.unit))
    if line.markers:
        main |= {
            "mode": "markers",
            "marker": {"symbol": "x-thin", "size": 8, "line": {"color": line.colour, "width": 1.5}},
        }
    return [main]


def _trace(line: Line, mode: str = "lines") -> Chart:
    return {
        "type": "scatter",
        "mode": mode,
        "name": line.name,
        "x": _values(line.x),
        "y": _values(line.y),
        "line": {"color": line.colour, "width": 2, "dash": line.dash},
        "hovertemplate": f"%{{y:.4~g}}{line.unit}",
    }


def _values(values: Floats) -> list[float | None]:
    """Numbers of five significant digits; JSON knows no NaN."""
    return [None if not np.isfinite(v) else float(f"{v:.5g}") if v % 1 else float(v) for v in values.tolist()]
