"""A sweep as one HTML file: verdicts, grid, curves, ablations. It opens without a network."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import plotly.graph_objects as go

from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS
from adadpo_mini.paper.claims import FOOTNOTE, headline, verdicts
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.render import render
from adadpo_mini.paper.report_figures import (
    LC,
    SHIFT,
    VARIED,
    WIN_RATE,
    ablation_figure,
    ceiling_panels,
    curve_figure,
    grid_panels,
    rate_text,
)
from adadpo_mini.paper.results import Row, closing_rows, read_measurements
from adadpo_mini.system.files import check_can_write, replaced_file

REPORT_BYTES = 5_000_000  # about; most of it is plotly.js

Panels = dict[str, dict[str, go.Figure]]
"""Figures by title, and then by data set; "" is all data sets."""

GRID_SECTIONS: dict[str, Callable[[Sequence[Row]], Mapping[str, go.Figure]]] = {
    "LC win rate (length-controlled, against the reference; 0.50 is a draw)": partial(
        grid_panels, quantity=LC
    ),
    "Win rate (against the reference; a tie counts half)": partial(grid_panels, quantity=WIN_RATE),
    "Δchosen (change in the log-prob of the chosen completions, nats per completion)": partial(
        grid_panels, quantity=SHIFT
    ),
    "Share of pairs with ρ at its ceiling (mean over the run; at 1.00 AdaDPO is the fixed ratio)": (
        ceiling_panels
    ),
}
"""What draws each row of heat maps, by its heading."""


def write_report(results: Path, out: Path) -> None:
    """Write the report of a sweep's results as one self-contained HTML file.

    Raises:
        InputError: the results cannot be read, or would be overwritten. WriteError: the file
            cannot be written; a file that was there before is unchanged.
    """
    rows = read_measurements(results)
    if os.path.realpath(out) == os.path.realpath(results):
        raise InputError(f"{out} contains the results; give another file for the report.")
    check_can_write(out, REPORT_BYTES)
    with replaced_file(out) as partial_file:
        text = report_html(rows, results.name)
        partial_file.write_text(text, encoding="utf-8", newline="\n")


def report_html(rows: Sequence[Row], source: str) -> str:
    """Return the whole page.

    Args:
        source: the name of the results, for the reader.
    """
    return render(
        "report.html",
        size=Size.of(rows),
        source=source,
        headline=headline(rows),
        verdicts=verdicts(rows),
        footnote=FOOTNOTE,
        grid_sets=_grid_sets(rows),
        grid={heading: _for_each_set(rows, draw) for heading, draw in GRID_SECTIONS.items()},
        curves=dict(_curves(rows)),
        ablations=dict(_ablations(rows)),
    )


@dataclass(frozen=True)
class Size:
    """How much was run.

    Attributes:
        runs: in all experiments.
        settings: of learning rate and β in the grid.
        seeds: of the grid.
        sets: the data sets of all experiments.
    """

    runs: int
    settings: int
    seeds: int
    sets: Sequence[str]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Size":
        """Return how much was run, from all rows of a sweep."""
        grid = closing_rows(rows, "grid")
        return cls(
            runs=sum(row["step"] == row["steps"] for row in rows),
            settings=len({(row["learning_rate"], row["beta"]) for row in grid}),
            seeds=len({row["seed"] for row in grid}),
            sets=sorted({row["data"] for row in rows}),
        )


def _grid_sets(rows: Sequence[Row]) -> list[str]:
    return sorted({row["data"] for row in rows if row["experiment"] == "grid"})


def _for_each_set(
    rows: Sequence[Row], draw: Callable[[Sequence[Row]], Mapping[str, go.Figure]]
) -> Panels:
    """Return the panels of all data sets together, and of each alone."""
    panels: Panels = {}
    for name in ("", *_grid_sets(rows)):
        part = [row for row in rows if name in ("", row["data"])]
        for title, figure in draw(part).items():
            panels.setdefault(title, {})[name] = figure
    return panels


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, go.Figure]]]:
    """Yield, for each data set, the curves at DPO's best setting and at AdaDPO's."""
    for data in _grid_sets(rows):
        best = {method: best_setting(rows, data, method) for method in ("dpo", "adadpo")}
        for setting in dict.fromkeys(best.values()):
            if setting:
                whose = " and ".join(LABELS[method] for method in best if best[method] == setting)
                place = f"learning rate {rate_text(setting[0])}, β {setting[1]:g}"
                yield f"{data}, best for {whose}: {place}", {"": curve_figure(rows, data, setting)}


def _ablations(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, go.Figure]]]:
    """Yield, for each ablation, LC win rate and Δchosen against what it varies."""
    run = {row["experiment"] for row in rows}
    for experiment, (axis, _) in VARIED.items():
        for quantity in (LC, SHIFT) if experiment in run else ():
            figure = ablation_figure(rows, experiment, quantity)
            if figure:
                yield f"{axis}: {quantity.title}", {"": figure}
