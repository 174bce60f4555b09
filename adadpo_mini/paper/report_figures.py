"""The figures of the report: heat maps of the grid, curves, ablations."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import cycle
from statistics import fmean

import plotly.graph_objects as go

from adadpo_mini.figures import COLOURS, DASHES, LABELS
from adadpo_mini.paper.comparisons import Measure, ablation_rows, paired_differences
from adadpo_mini.paper.results import Estimate, Row, closing_rows

GRID_METHODS = ("adadpo", "dpo", "adadpo_policy", "fixed_ratio")
SHORT = {"adadpo_policy": "policy space", "adadpo_raw": "raw"}
INK = "#80868f"  # reads on white and on black
SET_COLOURS = ("#7A828C", "#A0692B", "#8A9A2A", "#B04A5A", "#6B5B95", "#B59A3C", "#5E8A94")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross")


@dataclass(frozen=True)
class Quantity:
    """A measurement at the end of a run, and how it is shown.

    Attributes:
        title: what it is.
        unit: its unit; "" for shares.
        measure: takes it from a row.
        form: of the numbers.
        middle: the value whose colour is neutral.
        reach: how far from it the colours go; None to take it from the data.
    """

    title: str
    unit: str
    measure: Measure
    form: str
    middle: float
    reach: float | None

    def text(self, value: float) -> str:
        text = f"{value:{self.form}}".replace("-", "−")
        return text if text.strip("+−0.") else text.lstrip("+−")

    @property
    def difference(self) -> "Quantity":
        """The same for differences between two methods: signed, and neutral at 0."""
        return replace(self, form=f"+{self.form.lstrip('+')}", middle=0, reach=None)


LC = Quantity("LC win rate", "", lambda row: row["lc_win_rate"], ".2f", 0.5, 0.5)
WIN_RATE = Quantity("win rate", "", lambda row: row["win_rate"], ".2f", 0.5, 0.5)
SHIFT = Quantity("Δchosen", "nats per completion", lambda row: row["shift_chosen"], "+.1f", 0, None)
CEILING_SHARE = Quantity(
    "share of pairs at the ceiling", "", lambda row: row["ceiling_share"], ".2f", 0.5, 0.5
)
PALE = "#f3f2f4"
WORSE_BETTER = ((0, "#b487c8"), (0.5, PALE), (1, "#52b184"))
NONE_ALL = ((0, PALE), (1, "#7396b1"))
ON_CELLS = "#101317"  # reads on all of them, on a light page and on a dark one

Cells = dict[tuple[float, float], list[float]]
"""Values by (learning rate, β)."""


def heat_map(
    cells: Cells, quantity: Quantity, scale: Sequence[tuple[float, str]], reach: float
) -> go.Figure:
    """Mean of the values over learning rate × β, with its number in every cell.

    The hover text adds the 95 % t interval over the values and how many they are. `reach` is how
    far from the middle the colours go; what lies beyond has the last colour.
    """
    rates, betas = (sorted({place[i] for place in cells}) for i in (0, 1))
    z, text, hover = [], [], []
    for beta in betas:
        row = [cells.get((rate, beta)) for rate in rates]
        z.append([fmean(values) if values else None for values in row])
        text.append([quantity.text(fmean(values)) if values else "" for values in row])
        hover.append(
            [_cell_words(rate, beta, cells.get((rate, beta), []), quantity) for rate in rates]
        )
    figure = go.Figure(
        go.Heatmap(
            x=[rate_text(rate) for rate in rates],
            y=[f"{beta:g}" for beta in betas],
            z=z,
            text=text,
            texttemplate="%{text}",
            textfont={"color": ON_CELLS},
            customdata=hover,
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
    return _finish(figure, height=215, left=48, right=6)


def rate_text(learning_rate: float) -> str:
    """A learning rate, short enough for an axis.

    >>> rate_text(2e-4), rate_text(1.5e-5)
    ('2e−4', '1.5e−5')
    """
    return f"{Decimal(repr(learning_rate)):e}".replace("-", "−")


def _cell_words(rate: float, beta: float, values: Sequence[float], quantity: Quantity) -> str:
    place = f"learning rate {rate_text(rate)}, β {beta:g}<br>"
    if not values:
        return f"{place}not run"
    estimate = Estimate.of(values)
    spread = f" ± {estimate.half_width:{quantity.form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{place}{quantity.text(estimate.mean)}{spread} {quantity.unit} (n = {len(values)})"


def _finish(figure: go.Figure, height: int, left: int, right: int) -> go.Figure:
    """What all figures share. Colours of text and grid are the page's, see `SCRIPT`."""
    return figure.update_layout(
        template=None,
        height=height,
        margin={"l": left, "r": right, "t": 8, "b": 46},
        showlegend=False,
        dragmode=False,
    )


def _cells(rows: Iterable[Row], measure: Measure) -> Cells:
    cells: Cells = {}
    for row in rows:
        value = measure(row)
        if value is not None:
            cells.setdefault((row["learning_rate"], row["beta"]), []).append(value)
    return cells


def _difference_cells(rows: Sequence[Row], ours: str, theirs: str, measure: Measure) -> Cells:
    sides = ([row for row in rows if row["method"] == method] for method in (ours, theirs))
    cells: Cells = {}
    for (_, rate, beta), seeds in paired_differences(*sides, measure).items():
        cells.setdefault((rate, beta), []).extend(seeds.values())
    return cells


def grid_panels(rows: Sequence[Row], quantity: Quantity) -> dict[str, go.Figure]:
    """A heat map for each method, and one for what AdaDPO has over DPO and over the fixed ratio."""
    closing = closing_rows(rows, "grid")
    values, differences = {}, {}
    for method in GRID_METHODS:
        mine = (row for row in closing if row["method"] == method)
        values[method] = _cells(mine, quantity.measure)
    for rival in ("dpo", "fixed_ratio"):
        differences[rival] = _difference_cells(closing, "adadpo", rival, quantity.measure)
    reach = quantity.reach or _reach(values.values())
    reach_of_differences = _reach(differences.values())
    figures = {}
    for method in GRID_METHODS:
        if values[method]:
            figures[LABELS[method]] = heat_map(values[method], quantity, WORSE_BETTER, reach)
        if differences.get(method):
            title, rival = f"AdaDPO − {LABELS[method]}", COLOURS[method]
            scale = ((0, rival), (0.5, PALE), (1, COLOURS["adadpo"]))
            figures[title] = heat_map(
                differences[method], quantity.difference, scale, reach_of_differences
            )
    return figures


def _reach(panels: Iterable[Cells]) -> float:
    """The size that four in five cells do not pass: one wild cell must not pale all others."""
    sizes = sorted(abs(fmean(values)) for cells in panels for values in cells.values())
    return (sizes[int(0.8 * (len(sizes) - 1))] if sizes else 0) or 1.0


def ceiling_panels(rows: Sequence[Row]) -> dict[str, go.Figure]:
    """Where ρ sits at its ceiling: share of pairs, mean over a run's measured steps from 1 on."""
    panels = {}
    for method in ("adadpo", "adadpo_policy"):
        mine = [
            row
            for row in rows
            if row["experiment"] == "grid" and row["method"] == method and row["step"] > 0
        ]
        by_run: dict[tuple, list[float]] = {}
        for row in mine:
            if row["ceiling_share"] is not None:
                run = tuple(row[name] for name in ("learning_rate", "beta", "data", "seed"))
                by_run.setdefault(run, []).append(row["ceiling_share"])
        cells: Cells = {}
        for (rate, beta, *_), shares in by_run.items():
            cells.setdefault((rate, beta), []).append(fmean(shares))
        if cells:
            panels[LABELS[method]] = heat_map(cells, CEILING_SHARE, NONE_ALL, 0.5)
    return panels


def curve_figure(rows: Sequence[Row], data: str, setting: tuple[float, float]) -> go.Figure:
    """shift/chosen (solid) and shift/rejected (dashed) against the step, mean and 95 % t interval
    over the seeds as a band; a method is a colour, as in every picture."""
    mine = [
        row
        for row in rows
        if row["experiment"] == "grid"
        and row["data"] == data
        and (row["learning_rate"], row["beta"]) == setting
    ]
    figure, ends = go.Figure(), []
    for method in GRID_METHODS:
        for side in ("chosen", "rejected"):
            by_step: dict[float, list[float]] = {}
            for row in mine:
                if row["method"] == method and row[f"shift_{side}"] is not None:
                    by_step.setdefault(row["step"], []).append(row[f"shift_{side}"])
            if by_step:
                curve = {step: Estimate.of(by_step[step]) for step in sorted(by_step)}
                _add_curve(figure, method, side, curve)
                ends.append((curve[max(curve)].mean, _name(method, side)))
    figure.add_hline(y=0, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title="training step")
    figure.update_yaxes(title="change in log-prob (nats per completion)")
    _finish(figure, height=340, left=58, right=104)
    drawn = [y for trace in figure.data for y in trace.y]
    _label_ends(figure, ends, min(0, *drawn), max(0, *drawn))
    return figure


def _name(method: str, side: str) -> str:
    line = "━━" if side == "chosen" else "╍╍"
    label = SHORT.get(method, LABELS[method])
    return f'<span style="color:{COLOURS[method]}">{line}</span> {label}'


def _add_curve(figure: go.Figure, method: str, side: str, curve: Mapping[float, Estimate]) -> None:
    steps = list(curve)
    known = [step for step in steps if curve[step].count > 1]
    upper = [curve[step].mean + curve[step].half_width for step in known]
    lower = [curve[step].mean - curve[step].half_width for step in known]
    figure.add_scatter(
        x=known + known[::-1],
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
        x=steps,
        y=[estimate.mean for estimate in curve.values()],
        customdata=[
            f"{e.mean:+.1f}" + (f" ± {e.half_width:.1f}" if e.count > 1 else "")
            for e in curve.values()
        ],
        mode="lines",
        line={"color": COLOURS[method], "dash": DASHES[side], "width": 2.2},
        name=f"{method} {side}",
        hovertemplate=f"{LABELS[method]}, {side}, step %{{x}}: %{{customdata}} nats<extra></extra>",
    )


def _label_ends(
    figure: go.Figure, ends: Sequence[tuple[float, str]], low: float, high: float
) -> None:
    """Show y from low to high, and name each line at its end, moved apart where two ends meet."""
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    room = 0.05 * ((high - low) or max(1, abs(high)))
    low, high = low - room, high + room
    figure.update_yaxes(range=[low, high])
    ends = sorted(ends, key=lambda end: -end[0])
    wanted = [(high - value) / (high - low) * height for value, _ in ends]  # pixels from the top
    for (value, name), at, placed in zip(ends, wanted, _apart(wanted, height), strict=True):
        figure.add_annotation(
            x=1, xref="paper", y=value, yshift=at - placed, text=name,
            showarrow=False, xanchor="left", xshift=4, font={"size": 12},
        )  # fmt: skip


def _apart(places: Sequence[float], height: float, line: float = 16.0) -> list[float]:
    """Rising places at least a line apart: moved down where needed, then up if out of the picture.

    >>> _apart([10, 12, 50, 99], 100), _apart([70, 95, 97], 100)
    ([10, 26.0, 50, 99], [68.0, 84.0, 100.0])
    """
    placed: list[float] = []
    for place in places:
        placed.append(max(place, placed[-1] + line) if placed else place)
    below = height + line
    for i in reversed(range(len(placed))):
        below = placed[i] = min(placed[i], below - line)
    return placed


ABLATIONS: dict[str, tuple[str, Callable[[Row], object]]] = {
    "ceiling": ("ceiling C", lambda row: row["ceiling"]),
    "ceiling_at_defaults": ("ceiling C at the defaults", lambda row: row["ceiling"]),
    "form": ("form of ρ", lambda row: row["method"]),
    "k": ("k", lambda row: row["k"]),
    "floor": ("floor", lambda row: row["floor"] or 0.0),
}
FORMS = {"adadpo": "stable", "adadpo_policy": "policy space", "adadpo_raw": "raw"}


def _by_varied(
    rows: Sequence[Row], experiment: str, quantity: Quantity
) -> dict[str, dict[object, list[float]]]:
    """The quantity of all runs, by data set and then by what is varied."""
    _, varied = ABLATIONS[experiment]
    found: dict[str, dict[object, list[float]]] = {}
    for row in ablation_rows(rows, experiment):
        value, at = quantity.measure(row), varied(row)
        if value is not None and at is not None:
            found.setdefault(row["data"], {}).setdefault(at, []).append(value)
    return found


def _varied_name(value: object, experiment: str) -> str:
    if isinstance(value, str):
        return FORMS.get(value, LABELS[value])
    return f"{value:g}" if value or experiment != "floor" else "none"


def ablation_figure(rows: Sequence[Row], experiment: str, quantity: Quantity) -> go.Figure | None:
    """The quantity against what is varied, a line a data set, with 95 % t intervals over seeds."""
    axis, _ = ABLATIONS[experiment]
    found = _by_varied(rows, experiment, quantity)
    if not found:
        return None
    order = sorted({value for by_value in found.values() for value in by_value})
    names = {value: _varied_name(value, experiment) for value in order}
    figure, ends, reached = go.Figure(), [], []
    looks = zip(sorted(found), cycle(SET_COLOURS), cycle(SYMBOLS), strict=False)
    for data, colour, symbol in looks:
        points = {names[v]: Estimate.of(found[data][v]) for v in order if v in found[data]}
        spreads = [p.half_width if p.count > 1 else 0 for p in points.values()]
        means = [point.mean for point in points.values()]
        name = html.escape(data)
        figure.add_scatter(
            x=list(points),
            y=means,
            error_y={"array": spreads, "thickness": 1.5, "width": 4},
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"symbol": symbol, "size": 8},
            name=data,
            hovertemplate=f"{name}, {axis} %{{x}}: %{{y:{quantity.form}}}<extra></extra>",
        )
        ends.append((means[-1], f'<span style="color:{colour}">━━</span> {name}'))
        reached += [m + sign * s for m, s in zip(means, spreads, strict=True) for sign in (-1, 1)]
    figure.update_xaxes(type="category", categoryarray=list(names.values()), title=axis)
    unit = f"<br>({quantity.unit})" if quantity.unit else ""
    figure.update_yaxes(title=quantity.title + unit)
    _finish(figure, height=300, left=58, right=120)
    _label_ends(figure, ends, min(reached), max(reached))
    return figure
