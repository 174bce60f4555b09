"""One knob of AdaDPO against its effect, a line for each data set."""

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

import plotly.graph_objects as go

from adadpo_mini.figures import LABELS
from adadpo_mini.paper.ablation_claims import CEILINGS, ablation_rows
from adadpo_mini.paper.comparisons import measure_of
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.report_figures.layout import finish, label_ends, swatch
from adadpo_mini.paper.report_figures.quantities import Quantity
from adadpo_mini.paper.results import Row

VARIED: dict[str, tuple[str, Callable[[Row], object]]] = {
    **{name: (f"ceiling C, {where}", measure_of("ceiling")) for name, where in CEILINGS.items()},
    "form": ("form of ρ", lambda row: row["method"]),
    "k": ("k", measure_of("k")),
}
"""What each ablation varies: its name, and how to read it from a row."""
FORMS = {"adadpo": "stable (per token)", "adadpo_raw": "raw"}
SET_COLOURS = ("#7A828C", "#A0692B", "#8A9A2A", "#B04A5A", "#6B5B95", "#B59A3C", "#5E8A94")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")


def ablation_figure(rows: Sequence[Row], experiment: str, quantity: Quantity) -> go.Figure | None:
    """Draw the quantity against what is varied, a line for each data set; None without runs.

    The error bars are 95 % t intervals over seeds.

    Args:
        experiment: a key of `VARIED`.
    """
    found = _by_varied(rows, experiment, quantity)
    if not found:
        return None
    axis, _ = VARIED[experiment]
    order = sorted({value for by_value in found.values() for value in by_value})
    names = {value: _name(value) for value in order}
    figure, ends, reached = go.Figure(), [], []
    looks = zip(sorted(found), cycle(SET_COLOURS), cycle(SYMBOLS), strict=False)
    for data, colour, symbol in looks:
        points = {names[v]: Estimate.of(found[data][v]) for v in order if v in found[data]}
        hover = f"{html.escape(data)}, {axis} %{{x}}: %{{y:{quantity.form}}}<extra></extra>"
        reached += _add_line(figure, data, points, colour, symbol, hover)
        last = list(points.values())[-1].mean
        ends.append((last, f"{swatch(colour)} {html.escape(data)}"))
    figure.update_xaxes(type="category", categoryarray=list(names.values()), title=axis)
    unit = f"<br>({quantity.unit})" if quantity.unit else ""
    figure.update_yaxes(title=quantity.title + unit)
    finish(figure, height=300, left=58, right=120)
    label_ends(figure, ends, min(reached), max(reached))
    return figure


def _by_varied(
    rows: Sequence[Row], experiment: str, quantity: Quantity
) -> dict[str, dict[object, list[float]]]:
    """Return the quantity of all runs, by data set and then by the varied value."""
    _, varied = VARIED[experiment]
    found: dict[str, dict[object, list[float]]] = {}
    for row in ablation_rows(rows, experiment):
        value, at = quantity.measure(row), varied(row)
        if value is not None and at is not None:
            found.setdefault(row["data"], {}).setdefault(at, []).append(value)
    return found


def _name(value: object) -> str:
    if isinstance(value, str):
        return FORMS.get(value, LABELS[value])
    return f"{value:g}"


def _add_line(
    figure: go.Figure,
    data: str,
    points: Mapping[str, Estimate],
    colour: str,
    symbol: str,
    hover: str,
) -> list[float]:
    """Draw the line of one data set; return both ends of every error bar."""
    means = [point.mean for point in points.values()]
    spreads = [point.half_width if point.count > 1 else 0 for point in points.values()]
    figure.add_scatter(
        x=list(points),
        y=means,
        error_y={"array": spreads, "thickness": 1.5, "width": 4},
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "size": 8},
        name=data,
        hovertemplate=hover,
    )
    return [m + sign * s for m, s in zip(means, spreads, strict=True) for sign in (-1, 1)]
