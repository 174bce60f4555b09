"""Heat maps over learning rate × β: every method's results, differences, and the ceiling."""

from collections.abc import Iterable, Sequence
from statistics import fmean

import plotly.graph_objects as go

from adadpo_mini.figures import COLOURS, LABELS
from adadpo_mini.paper.comparisons import Measure, paired_differences
from adadpo_mini.paper.report_figures.layout import finish
from adadpo_mini.paper.report_figures.quantities import CEILING_SHARE, Quantity, rate_text
from adadpo_mini.paper.results import Estimate, Row, closing_rows

GRID_METHODS = ("adadpo", "dpo", "adadpo_policy", "fixed_ratio")
RIVALS = ("dpo", "fixed_ratio")
PALE = "#f3f2f4"
WORSE_BETTER = ((0, "#b487c8"), (0.5, PALE), (1, "#52b184"))
NONE_ALL = ((0, PALE), (1, "#7396b1"))
ON_CELLS = "#101317"  # legible on all of these colours, on a light page and on a dark one

Cells = dict[tuple[float, float], list[float]]
"""Values by (learning rate, β)."""
Scale = Sequence[tuple[float, str]]
"""Colours by position, from 0 to 1."""


def grid_panels(rows: Sequence[Row], quantity: Quantity) -> dict[str, go.Figure]:
    """Draw a heat map for each method, for AdaDPO minus DPO, and for AdaDPO minus the fixed ratio.

    Returns:
        The figures by title. Methods without results are left out.
    """
    closing = closing_rows(rows, "grid")
    values = {method: _cells(closing, method, quantity.measure) for method in GRID_METHODS}
    differences = {rival: _difference_cells(closing, rival, quantity.measure) for rival in RIVALS}
    reach = quantity.reach or _reach(values.values())
    reach_of_differences = _reach(differences.values())
    figures = {}
    for method in GRID_METHODS:
        if values[method]:
            figures[LABELS[method]] = heat_map(values[method], quantity, WORSE_BETTER, reach)
        if differences.get(method):
            figures[f"AdaDPO − {LABELS[method]}"] = heat_map(
                differences[method],
                quantity.difference,
                ((0, COLOURS[method]), (0.5, PALE), (1, COLOURS["adadpo"])),
                reach_of_differences,
            )
    return figures


def ceiling_panels(rows: Sequence[Row]) -> dict[str, go.Figure]:
    """Draw the share of pairs with ρ at its ceiling, a run's mean over measured steps from 1 on."""
    panels = {}
    for method in ("adadpo", "adadpo_policy"):
        by_run: dict[tuple, list[float]] = {}
        for row in rows:
            is_mine = (row["experiment"], row["method"]) == ("grid", method)
            if is_mine and row["step"] > 0 and row["ceiling_share"] is not None:
                run = tuple(row[name] for name in ("learning_rate", "beta", "data", "seed"))
                by_run.setdefault(run, []).append(row["ceiling_share"])
        cells: Cells = {}
        for (rate, beta, *_), shares in by_run.items():
            cells.setdefault((rate, beta), []).append(fmean(shares))
        if cells:
            panels[LABELS[method]] = heat_map(cells, CEILING_SHARE, NONE_ALL, 0.5)
    return panels


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
    figure.update_xaxes(type="category", title="learning rate", showgrid=False)
    figure.update_yaxes(type="category", title="β", showgrid=False)
    return finish(figure, height=215, left=48, right=6)


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


def _difference_cells(closing: Sequence[Row], rival: str, measure: Measure) -> Cells:
    """Return AdaDPO minus the rival, a value for each pair of runs."""
    sides = ([row for row in closing if row["method"] == method] for method in ("adadpo", rival))
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
