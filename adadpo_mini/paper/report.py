"""A sweep as one HTML file: verdicts, grid, controls, ablations. It opens without a network."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import plotly.graph_objects as go

from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS
from adadpo_mini.paper.ablation_claims import ABLATIONS
from adadpo_mini.paper.claim_tables import (
    FOOTNOTE,
    best_settings_text,
    claim_title,
    settings_text,
    size_text,
)
from adadpo_mini.paper.claims import CLAIMS, Claim, data_sets
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.control_claims import CONTROLS
from adadpo_mini.paper.findings import AGAINST_DPO, both_spaces
from adadpo_mini.paper.render import render
from adadpo_mini.paper.report_figures import (
    LC,
    LC_AT_1,
    SHIFT,
    VARIED,
    WIN_RATE,
    WIN_RATE_AT_1,
    ablation_figure,
    ceiling_panels,
    control_figure,
    curve_figure,
    grid_panels,
    rate_text,
)
from adadpo_mini.paper.results import Row, read_measurements
from adadpo_mini.paper.verdict import Verdict
from adadpo_mini.system.files import check_can_write, replaced_file

REPORT_BYTES = 5_000_000  # about; most of it is plotly.js

Panels = dict[str, dict[str, go.Figure]]
"""Figures by title, and then by data set; "" if they do not depend on the choice of one."""

GRID_SECTIONS: dict[str, Callable[[Sequence[Row]], Mapping[str, go.Figure]]] = {
    "LC win rate at T 0.7 (length-controlled, against the reference; 0.50 is a draw)": partial(
        grid_panels, quantity=LC
    ),
    "LC win rate at T 1": partial(grid_panels, quantity=LC_AT_1),
    "Win rate at T 0.7 (against the reference; a tie counts half)": partial(
        grid_panels, quantity=WIN_RATE
    ),
    "Win rate at T 1": partial(grid_panels, quantity=WIN_RATE_AT_1),
    "Δchosen (change in the log-prob of the chosen completions, nats per completion)": partial(
        grid_panels, quantity=SHIFT
    ),
    "Share of held-out pairs with ρ at its ceiling, after training": ceiling_panels,
}
"""What draws each row of heat maps, by its heading."""


def write_report(results: Path, out: Path) -> None:
    """Write the report of a sweep's results as one self-contained HTML file.

    Raises:
        InputError: the results cannot be read, have no grid, or would be overwritten. WriteError:
            the file cannot be written; a file that was there before is unchanged.
    """
    rows = read_measurements(results)
    if not data_sets(rows):
        raise InputError(
            f"{results} has no runs of grid, which the report shows; make them with `adadpo-mini "
            "sweep paper`."
        )
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

    Raises:
        InputError: the runs of the grid differ in size.
    """
    return render(
        "report.html",
        size=size_text(rows, source),
        source=source,
        findings=[f"{title}: {both_spaces(claim, rows)}" for title, claim in AGAINST_DPO.items()],
        sets=data_sets(rows),
        footnote=FOOTNOTE,
        best=best_settings_text(rows),
        claims=list(claim_rows(CLAIMS, rows)),
        grid={heading: _for_each_set(rows, draw) for heading, draw in GRID_SECTIONS.items()},
        curves=dict(_curves(rows)),
        controls=[_controls(rows, where) for where in CONTROLS],
        ablation_claims=list(claim_rows(ABLATIONS, rows)),
        ablations=dict(_ablations(rows)),
    )


@dataclass(frozen=True)
class ClaimRow:
    """A row of a table of claims.

    Attributes:
        title, unit: of the claim.
        cells: for each data set, the verdicts by measure.
    """

    title: str
    unit: str
    cells: Mapping[str, Mapping[str, Verdict]]


def claim_rows(claims: Iterable[Claim], rows: Sequence[Row]) -> Iterator[ClaimRow]:
    """Yield a row for each claim and space."""
    for claim in claims:
        for method in claim.spaces:
            cells = {name: claim.verdicts(rows, name, method) for name in data_sets(rows)}
            yield ClaimRow(claim_title(claim, method), claim.unit, cells)


def _for_each_set(
    rows: Sequence[Row], draw: Callable[[Sequence[Row]], Mapping[str, go.Figure]]
) -> Panels:
    """Return the panels of each data set."""
    panels: Panels = {}
    for name in data_sets(rows):
        part = [row for row in rows if row["data"] == name]
        for title, figure in draw(part).items():
            panels.setdefault(title, {})[name] = figure
    return panels


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, go.Figure]]]:
    """Yield, for each data set, the curves at DPO's best setting and at AdaDPO's."""
    for data in data_sets(rows):
        best = {method: best_setting(rows, data, method) for method in ("dpo", "adadpo")}
        for setting in dict.fromkeys(best.values()):
            if setting:
                whose = " and ".join(LABELS[method] for method in best if best[method] == setting)
                place = f"learning rate {rate_text(setting[0])}, β {setting[1]:g}"
                yield f"{data}, best for {whose}: {place}", {"": curve_figure(rows, data, setting)}


@dataclass(frozen=True)
class Controls:
    """The part about the controls at one kind of setting.

    Attributes:
        where: the kind of setting.
        settings: which settings these are, in words.
        claims: the table; empty without runs.
        figures: the win rates, by data set.
    """

    where: str
    settings: str
    claims: Sequence[ClaimRow]
    figures: Panels


def _controls(rows: Sequence[Row], where: str) -> Controls:
    figures = {name: control_figure(rows, name, where) for name in data_sets(rows, "controls")}
    drawn = {name: {"": figure} for name, figure in figures.items() if figure}
    claims = list(claim_rows(CONTROLS[where], rows)) if drawn else []
    return Controls(where, settings_text(rows, where), claims, drawn)


def _ablations(rows: Sequence[Row]) -> Iterator[tuple[str, dict[str, go.Figure]]]:
    """Yield, for each ablation, LC win rates and Δchosen against what it varies."""
    run = {row["experiment"] for row in rows}
    for experiment, (axis, _) in VARIED.items():
        for quantity in (LC, LC_AT_1, SHIFT) if experiment in run else ():
            figure = ablation_figure(rows, experiment, quantity)
            if figure:
                yield f"{axis}: {quantity.title}", {"": figure}
