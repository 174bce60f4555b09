"""How far chosen and rejected have moved, at each measured step, at one setting of the grid."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from adadpo_mini.figures import COLOURS, DASHES, LABELS
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.report_figures.heat_maps import GRID_METHODS
from adadpo_mini.paper.report_figures.layout import INK, finish, label_ends, swatch
from adadpo_mini.paper.results import Row

SHORT = {"adadpo_policy": "policy space"}

Curve = Mapping[float, Estimate]
"""Mean and interval over seeds, by training step."""


def curve_figure(rows: Sequence[Row], data: str, setting: tuple[float, float]) -> go.Figure:
    """Draw Δchosen (solid) and Δrejected (dashed) by training step, in nats per completion.

    The line is the mean over seeds, the band its 95 % t interval. A method has the same colour as
    in every figure.

    Args:
        setting: (learning rate, β).
    """
    where = ("grid", data, *setting)
    columns = ("experiment", "data", "learning_rate", "beta")
    mine = [row for row in rows if tuple(row[name] for name in columns) == where]
    figure, ends = go.Figure(), []
    for method in GRID_METHODS:
        for side in ("chosen", "rejected"):
            curve = _curve(mine, method, side)
            if curve:
                _add_curve(figure, method, side, curve)
                ends.append((curve[max(curve)].mean, _label(method, side)))
    figure.add_hline(y=0, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="training step")
    figure.update_yaxes(title="change in log-prob (nats per completion)")
    finish(figure, height=340, left=58, right=104)
    drawn = [y for trace in figure.data for y in trace.y]
    label_ends(figure, ends, min(0, *drawn), max(0, *drawn))
    return figure


def _curve(rows: Sequence[Row], method: str, side: str) -> Curve:
    by_step: dict[float, list[float]] = {}
    for row in rows:
        if row["method"] == method and row[f"shift_{side}"] is not None:
            by_step.setdefault(row["step"], []).append(row[f"shift_{side}"])
    return {step: Estimate.of(by_step[step]) for step in sorted(by_step)}


def _label(method: str, side: str) -> str:
    line = "━━" if side == "chosen" else "╍╍"
    return f"{swatch(COLOURS[method], line)} {SHORT.get(method, LABELS[method])}"


def _add_curve(figure: go.Figure, method: str, side: str, curve: Curve) -> None:
    known = [step for step in curve if curve[step].count > 1]
    upper = [curve[step].mean + curve[step].half_width for step in known]
    lower = [curve[step].mean - curve[step].half_width for step in known]
    figure.add_scatter(
        x=known + known[::-1],  # out along the upper edge, back along the lower
        y=upper + lower[::-1],
        fill="toself",
        fillcolor=COLOURS[method],
        opacity=0.18,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=f"{method} {side} interval",
    )
    figure.add_scatter(
        x=list(curve),
        y=[estimate.mean for estimate in curve.values()],
        customdata=[_hover_text(estimate) for estimate in curve.values()],
        mode="lines+markers",
        marker={"size": 6},
        line={"color": COLOURS[method], "dash": DASHES[side], "width": 2.2},
        name=f"{method} {side}",
        hovertemplate=f"{LABELS[method]}, {side}, step %{{x}}: %{{customdata}} nats<extra></extra>",
    )


def _hover_text(estimate: Estimate) -> str:
    spread = f" ± {estimate.half_width:.1f}" if estimate.count > 1 else ""
    return f"{estimate.mean:+.1f}{spread}"
