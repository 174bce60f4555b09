"""Heat maps over learning rate × β: every method's results, differences, and the ceiling."""

from collections.abc import Iterable, Sequence
from statistics import fmean

import plotly.graph_objects as go

from adadpo_mini.figures import COLOURS, LABELS
from adadpo_mini.paper.claims import SPACES
from adadpo_mini.paper.comparisons import Measure, paired_differences
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.report_figures.layout import finish
from adadpo_mini.paper.report_figures.quantities import CEILING_SHARE, Quantity, rate_text
from adadpo_mini.paper.results import Row, closing_rows

GRID_METHODS = ("dpo", "adadpo", "adadpo_policy")
PALE = "#f3f2f4"
WORSE_BETTER = ((0, "#b487c8"), (0.5, PALE), (1, "#52b184"))
NONE_ALL = ((0, PALE), (1, "#7396b1"))
ON_CELLS = "#101317"  # legible on all of these colours, on a light page and on a dark one

Cells = dict[tuple[float, float], list[float]]
"""Values by (learning rate, β)."""
Scale = Sequence[tuple[float, str]]
"""Colours by position, from 0 to 1."""


def grid_panels(rows: Sequence[Row], quantity: Quantity) -> dict[str, go.Figure]:
    """Draw a heat map for each method, and for AdaDPO minus DPO in each space.

    Returns:
        The figures by title. Methods without results are left out.
    """
    closing = closing_rows(rows, "grid")
    values = {method: _cells(closing, method, quantity.measure) for method in GRID_METHODS}
    differences = {space: _minus_dpo(closing, space, quantity.measure) for space in SPACES}
    reach = quantity.reach or _reach(values.values())
    reach_of_differences = _reach(differences.values())
    figures = {
        LABELS[method]: heat_map(cells, quantity, WORSE_BETTER, reach)
        for method, cells in values.items()
        if cells
    }
    for method, cells in differences.items():
        if cells:
            scale = ((0, COLOURS["dpo"]), (0.5, PALE), (1, COLOURS["adadpo"]))
            title = f"{LABELS[method]} − {LABELS['dpo']}"
            figures[title] = heat_map(cells, quantity.difference, scale, reach_of_differences)
    return figures


def ceiling_panels(rows: Sequence[Row]) -> dict[str, go.Figure]:
    """Draw the share of held-out pairs with ρ at its ceiling, after training."""
    closing = closing_rows(rows, "grid")
    cells = {LABELS[name]: _cells(closing, name, CEILING_SHARE.measure) for name in SPACES}
    return {
        title: heat_map(found, CEILING_SHARE, NONE_ALL, 0.5)
        for title, found in cells.items()
        if found
    }


def heat_map(cells: Cells, quantity: Quantity, scale: Scale, reach: float) -> go.Figure:
    """Draw the mean of the values over learning rate × β, with its number in every cell.

    The hover text adds the 95 % t interval over the values and their count. A cell without values
    is empty.

    Args:
        reach: how far from the middle the colours go; what is beyond has the last colour.
    """
    rates, betas = (sorted({place[i] for place in cells}) for i in (0, 1))
    grid = [[cells.get((rate, beta), []) for rate in rates] for beta in betas]
    figure = go.Figure(
        go.Heatmap(
            x=[rate_text(rate) for rate in rates],
            y=[f"{beta:g}" for beta in betas],
            z=[[fmean(values) if values else None for values in row] for row in grid],
            text=[[quantity.text(fmean(v)) if v else "" for v in row] for row in grid],
            texttemplate="%{text}",
            textfont={"color": ON_CELLS},
            customdata=[
                [_hover_text(rate, beta, v, quantity) for rate, v in zip(rates, row, strict=True)]
                for beta, row in zip(betas, grid, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
            colorscale=scale,
            zmin=quantity.middle - reach,
            zmax=quantity.middle + reach,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    upright = {"tickangle": 0, "tickfont": {"size": 11}}  # five must fit into a narrow picture
    figure.update_xaxes(type="category", title="learning rate", showgrid=False, **upright)
    figure.update_yaxes(type="category", title="β", showgrid=False)
    return finish(figure, height=215, left=44, right=2)


def _hover_text(rate: float, beta: float, values: Sequence[float], quantity: Quantity) -> str:
    place = f"learning rate {rate_text(rate)}, β {beta:g}<br>"
    if not values:
        return f"{place}not run"
    estimate = Estimate.of(values)
    spread = f" ± {quantity.spread_text(estimate.half_width)}" if len(values) > 1 else ""
    return f"{place}{quantity.text(estimate.mean)}{spread} {quantity.unit} (n = {len(values)})"


def _cells(closing: Iterable[Row], method: str, measure: Measure) -> Cells:
    cells: Cells = {}
    for row in closing:
        if row["method"] == method and (value := measure(row)) is not None:
            cells.setdefault((row["learning_rate"], row["beta"]), []).append(value)
    return cells


def _minus_dpo(closing: Sequence[Row], method: str, measure: Measure) -> Cells:
    """Return a method minus DPO, a value for each pair of runs."""
    sides = ([row for row in closing if row["method"] == name] for name in (method, "dpo"))
    cells: Cells = {}
    for (_, rate, beta), seeds in paired_differences(*sides, measure).items():
        cells.setdefault((rate, beta), []).extend(seeds.values())
    return cells


def _reach(panels: Iterable[Cells]) -> float:
    """Return the size that four in five cells do not exceed.

    The colours end there, so that one outlier does not wash out the rest.
    """
    sizes = sorted(abs(fmean(values)) for cells in panels for values in cells.values())
    return (sizes[int(0.8 * (len(sizes) - 1))] if sizes else 0) or 1.0
