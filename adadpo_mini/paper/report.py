"""A sweep as one HTML file: verdicts, grid, curves, ablations; opens offline, asks for nothing."""

import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS
from adadpo_mini.paper.claims import FOOTNOTE, headline, verdicts
from adadpo_mini.paper.comparisons import FAILS, HOLDS, best_setting
from adadpo_mini.paper.report_figures import (
    ABLATIONS,
    CEILING_SHARE,
    LC,
    SHIFT,
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
Plots = dict[str, dict[str, dict]]
"""Figures as JSON objects, by the id of their place and then by data set ("" for all)."""


class Page:
    """Collects sections of HTML and the figures they hold."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.plots: Plots = {}

    def add(self, text: str) -> None:
        self.parts.append(text)

    def add_panels(self, panels: Mapping[str, Mapping[str, go.Figure]], kind: str) -> None:
        """A row of figures, {title: {data set: figure}}; it wraps where the page is narrow."""
        self.add(f'<div class="{kind}">')
        for title, by_set in panels.items():
            place = f"plot-{len(self.plots)}"
            self.plots[place] = {name: json.loads(fig.to_json()) for name, fig in by_set.items()}
            said = html.escape(title)
            self.add(
                f"<figure><figcaption>{said}</figcaption>"
                f'<div class="plot" id="{place}" role="img" aria-label="{said}"></div></figure>'
            )
        self.add("</div>")


def write_report(results: Path, out: Path) -> None:
    """Write the report of a sweep's results as one self-contained HTML file.

    Raises:
        InputError: the results cannot be read, or would be overwritten. WriteError: the file
            cannot be written; what stood there before is untouched.
    """
    rows = read_measurements(results)
    if os.path.realpath(out) == os.path.realpath(results):
        raise InputError(f"{out}: holds the results; give another file for the report.")
    check_can_write(out, REPORT_BYTES)
    with replaced_file(out) as partial:
        text = report_html(rows, results.name)
        partial.write_text(text, encoding="utf-8", newline="\n")


def report_html(rows: Sequence[Row], source: str) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    page = Page()
    _add_verdicts(page, rows, source)
    _add_grid(page, rows)
    _add_curves(page, rows)
    _add_ablations(page, rows)
    plots = json.dumps(page.plots, separators=(",", ":")).replace("<", "\\u003c")
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        "<title>The AdaDPO paper in miniature</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>\n"
        + "\n".join(page.parts)
        + f'\n</main><script type="application/json" id="plots">{plots}</script>'
        f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script></body></html>\n"
    )


def _add_verdicts(page: Page, rows: Sequence[Row], source: str) -> None:
    grid = closing_rows(rows, "grid")
    sets = sorted({row["data"] for row in rows})
    runs = sum(row["step"] == row["steps"] for row in rows)
    page.add("<h1>The AdaDPO paper in miniature</h1>")
    settings = len({(row["learning_rate"], row["beta"]) for row in grid})
    seeds = len({row["seed"] for row in grid})
    page.add(
        f"<p>{runs:,} runs of a toy GPT-2 from <code>{html.escape(source)}</code>: "
        f"{settings} settings of learning rate and β, {seeds} seeds, {len(sets)} data sets "
        f"({html.escape(', '.join(sets))}). One base model, one toy world: it shows how the losses "
        "differ here, not which one is better for you.</p>"
    )
    page.add(f"<p class=headline>{html.escape(headline(rows))}</p>")
    page.add("<h2>The paper’s claims, tested here</h2><table id=claims><thead><tr>")
    titles = ("claim", "verdict", "effect", "95 % interval", "runs", "note")
    page.add("".join(f"<th>{title}</th>" for title in titles) + "</tr></thead><tbody>")
    for verdict in verdicts(rows):
        kind = {HOLDS: "holds", FAILS: "fails"}.get(verdict.verdict, "undecided")
        sign = {"holds": "✓", "fails": "✗"}.get(kind, "○")
        cells = (
            verdict.claim,
            f"{sign} {verdict.verdict}",
            verdict.effect_text,
            verdict.interval_text,
            f"{verdict.runs:,}",
            verdict.note,
        )
        page.add(
            f"<tr class={kind}>" + "".join(_td(*pair) for pair in zip(titles, cells, strict=True))
        )
    page.add(f"</tbody></table><p class=small>{html.escape(FOOTNOTE)}</p>")


def _td(title: str, text: str) -> str:
    return f'<td data-title="{title}">{html.escape(text)}</td>'


def _add_grid(page: Page, rows: Sequence[Row]) -> None:
    sets = sorted({row["data"] for row in rows if row["experiment"] == "grid"})
    options = "".join(f"<option>{html.escape(name)}</option>" for name in sets)
    page.add(
        "<h2>The grid</h2><p>Every number is a mean over the seeds, of one data set or of all, at "
        "the end of training; hover for the interval. Green is better, purple worse. In the "
        "differences blue is where AdaDPO is ahead, the rival’s colour where the rival is.</p>"
        f'<label>data set <select id="data-set"><option value="">all (mean)</option>{options}'
        "</select></label>"
    )
    subsets = {"": rows, **{name: [r for r in rows if r["data"] == name] for name in sets}}
    sections = [
        (quantity, f"{quantity.title} {words}", lambda part, q=quantity: grid_panels(part, q))
        for quantity, words in (
            (LC, "(length-controlled, against the reference; 0.50 is as good)"),
            (WIN_RATE, "(against the reference, a tie counts half)"),
            (SHIFT, "(log-prob of the chosen against the reference, nats per completion)"),
        )
    ]
    sections.append(
        (
            CEILING_SHARE,
            "Where ρ sits at its ceiling (share of pairs, mean over the run; at 1.00 AdaDPO is the "
            "fixed ratio)",
            ceiling_panels,
        )
    )
    for _, title, draw in sections:
        panels: dict[str, dict[str, go.Figure]] = {}
        for name, part in subsets.items():
            for panel, figure in draw(part).items():
                panels.setdefault(panel, {})[name] = figure
        page.add(f"<h3>{title[0].upper()}{title[1:]}</h3>")
        page.add_panels(panels, "maps")


def _add_curves(page: Page, rows: Sequence[Row]) -> None:
    page.add(
        "<h2>The curves</h2><p>Change of the held-out completions’ log-prob against the "
        "reference: chosen solid, rejected dashed; the line is the mean over seeds, the band its "
        "95 % interval. For each data set at the setting where DPO’s LC win rate is highest, and "
        "where AdaDPO’s is, so that neither is shown at a setting that only suits the other.</p>"
    )
    panels: dict[str, dict[str, go.Figure]] = {}
    for data in sorted({row["data"] for row in rows if row["experiment"] == "grid"}):
        best = {method: best_setting(rows, data, method) for method in ("dpo", "adadpo")}
        for setting in dict.fromkeys(best.values()):
            if setting:
                whose = " and ".join(LABELS[m] for m in best if best[m] == setting)
                place = f"learning rate {rate_text(setting[0])}, β {setting[1]:g}"
                title = f"{data}, best for {whose}: {place}"
                panels[title] = {"": curve_figure(rows, data, setting)}
    page.add_panels(panels, "curves")


def _add_ablations(page: Page, rows: Sequence[Row]) -> None:
    page.add(
        "<h2>The ablations</h2><p>One knob at a time, at AdaDPO's best setting of each data set, "
        "the ceiling at the default learning rate and β as well; mean and 95 % interval over "
        "seeds. The defaults are C = 2, the stable form, k = 1 and no floor.</p>"
    )
    panels = {
        f"{ABLATIONS[experiment][0]}: {quantity.title}": {"": figure}
        for experiment in ABLATIONS
        for quantity in (LC, SHIFT)
        if any(row["experiment"] == experiment for row in rows)
        and (figure := ablation_figure(rows, experiment, quantity))
    }
    page.add_panels(panels, "pairs")


STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #23272e; --quiet: #5b626d; --line: #e2e5ea;
  --holds: #1c7a46; --fails: #b3261e; --undecided: #5b626d; }
@media (prefers-color-scheme: dark) { :root { --page: #15181d; --ink: #e3e6eb; --quiet: #a2a9b4;
  --line: #343a44; --holds: #6fd39a; --fails: #ff8a80; --undecided: #a2a9b4; } }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin: 2.2em 0 .4em; }
h3 { font-size: 1rem; margin: 1.6em 0 .3em; }
p { max-width: 75ch; } .small, figcaption { color: var(--quiet); font-size: .86rem; }
.headline { font-weight: 600; border-left: 4px solid #2A86CC; padding-left: 12px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: 7px 10px 7px 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 500; }
td:nth-child(2) { font-weight: 600; white-space: nowrap; }
td:nth-child(4) { white-space: nowrap; } td:nth-child(6) { color: var(--quiet); }
.holds td:nth-child(2) { color: var(--holds); } .fails td:nth-child(2) { color: var(--fails); }
.undecided td:nth-child(2) { color: var(--undecided); }
select { font: inherit; padding: 4px 8px; }
.maps, .curves, .pairs { display: grid; gap: 14px 18px; }
.maps { grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); }
.pairs { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
figure { margin: 0; min-width: 0; display: grid; grid-row: span 2; grid-template-rows: subgrid;
  row-gap: 2px; }
figcaption { align-self: end; } .plot { width: 100%; overflow: hidden; }
@media (max-width: 760px) {
  thead { display: none; } tr { display: block; padding: 10px 0;
    border-bottom: 1px solid var(--line); }
  td { display: block; border: 0; padding: 1px 0; }
  td:nth-child(1) { font-weight: 600; }
  td:nth-child(n+3)::before { content: attr(data-title) ": "; color: var(--quiet); }
}
"""

SCRIPT = """
const plots = JSON.parse(document.getElementById("plots").textContent);
const choice = document.getElementById("data-set");
const config = { displayModeBar: false, displaylogo: false, showSendToCloud: false,
                 responsive: true };
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const axis = { gridcolor: colour("--line"), zeroline: false, linecolor: colour("--line"),
                 automargin: true, fixedrange: true };
  return { ...layout, autosize: true, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--ink"), size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { bgcolor: colour("--page"), bordercolor: colour("--quiet"),
                  font: { color: colour("--ink") } },
    xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } };
}

async function draw() {
  for (const [id, bySet] of Object.entries(plots)) {
    const fixed = Object.keys(bySet).length === 1;  // has nothing to do with the choice
    const figure = bySet[fixed ? "" : choice.value] ?? { data: [], layout: {} };
    await Plotly.react(id, figure.data, themed(figure.layout), config);
  }
  document.body.dataset.drawn = Object.keys(plots).length;
}

choice.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
"""
