"""How often each control wins against the reference, at one setting of one data set."""

from collections.abc import Sequence

import plotly.graph_objects as go

from adadpo_mini.figures import COLOURS
from adadpo_mini.paper.claim_tables import CONTROL_METHODS
from adadpo_mini.paper.control_claims import control_rows
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.report_figures.layout import INK, finish
from adadpo_mini.paper.report_figures.quantities import WIN_RATE, WIN_RATE_AT_1, Quantity
from adadpo_mini.paper.results import Row

LOOKS: dict[str, tuple[Quantity, str, float]] = {
    "T 0.7": (WIN_RATE, "circle", -0.16),
    "T 1": (WIN_RATE_AT_1, "circle-open", 0.16),
}
"""For each temperature: what is shown, its symbol, and how far below the middle of its row."""
ROW_HEIGHT = 28  # pixels


def control_figure(rows: Sequence[Row], data: str, where: str) -> go.Figure | None:
    """Draw each method's win rate with its 95 % t interval over seeds; None without runs.

    A row has a filled dot for T 0.7 and an open one for T 1, in the method's colour. The lines are
    at 0.5, the reference itself, and at the best that a perfect model could have at T 0.7.

    Args:
        where: the kind of setting, a key of `control_claims.CONTROLS`.
    """
    found = {
        title: (method, runs)
        for title, (experiment, method) in CONTROL_METHODS.items()
        if (runs := control_rows(rows, data, where, experiment, method))
    }
    if not found:
        return None
    figure = go.Figure()
    for temperature in LOOKS:
        _add_dots(figure, found, temperature)
    for place, dash in ((0.5, "dash"), (_perfect(found), "dot")):
        if place is not None:
            figure.add_vline(x=place, line={"color": INK, "width": 1, "dash": dash})
    titles = list(found)
    ticks = {"tickvals": list(range(len(titles))), "ticktext": titles}
    figure.update_yaxes(range=[len(titles) - 0.4, -0.6], title=None, showgrid=False, **ticks)
    figure.update_xaxes(title="win rate")
    return finish(figure, height=ROW_HEIGHT * len(titles) + 54, left=8, right=8)


def _add_dots(
    figure: go.Figure, found: dict[str, tuple[str, Sequence[Row]]], temperature: str
) -> None:
    quantity, symbol, offset = LOOKS[temperature]
    places, means, spreads, colours, texts = [], [], [], [], []
    for i, (title, (method, runs)) in enumerate(found.items()):
        values = [value for row in runs if (value := quantity.measure(row)) is not None]
        if values:
            estimate = Estimate.of(values)
            places.append(i + offset)
            means.append(estimate.mean)
            spreads.append(estimate.half_width if estimate.count > 1 else 0)
            colours.append(COLOURS[method])
            texts.append(f"{title}, {temperature}: {estimate.text('.2f')}")
    figure.add_scatter(
        x=means,
        y=places,
        error_x={"array": spreads, "thickness": 1.5, "width": 3, "color": INK},
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 9,
            "color": colours,
            "line": {"width": 2, "color": colours},
        },
        customdata=texts,
        hovertemplate="%{customdata}<extra></extra>",
        name=temperature,
    )


def _perfect(found: dict[str, tuple[str, Sequence[Row]]]) -> float | None:
    """Return what a perfect model would win at T 0.7, the mean over seeds."""
    known = [row["perfect_win_rate"] for _, runs in found.values() for row in runs]
    known = [value for value in known if value is not None]
    return Estimate.of(known).mean if known else None
