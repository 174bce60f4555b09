"""The report's figures show what is in the results."""

from itertools import pairwise
from statistics import fmean

import pytest

from adadpo_mini.figures import COLOURS
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.report_figures import (
    LC,
    LC_AT_1,
    SHIFT,
    WIN_RATE,
    ablation_figure,
    ceiling_panels,
    control_figure,
    curve_figure,
    grid_panels,
)
from adadpo_mini.paper.results import closing_rows
from tests.paper.made_up import (
    BEST,
    CONTROL_SEEDS,
    HARD,
    SEEDS,
    SETS,
    made_up_results,
)  # noqa: E501
from tests.paper.made_up import (
    closing as closing_of,
)


def values(figure):
    """{(learning rate, β) as written: number} of a heat map."""
    trace = figure.data[0]
    return {(x, y): trace.z[j][i] for j, y in enumerate(trace.y) for i, x in enumerate(trace.x)}


def closing(rows, method, **where):
    found = closing_rows(rows, "grid", method)
    return [row for row in found if all(row[name] == value for name, value in where.items())]


def test_a_cell_is_the_mean_of_its_runs_and_a_difference_that_of_its_pairs(rows):
    panels = grid_panels(rows, LC)
    assert list(panels) == [
        "DPO", "AdaDPO", "AdaDPO, policy space", "AdaDPO − DPO", "AdaDPO, policy space − DPO",
    ]  # fmt: skip
    where = {"learning_rate": 1e-4, "beta": 0.3}
    means = {
        method: fmean(row["lc_win_rate"] for row in closing(rows, method, **where))
        for method in ("adadpo", "dpo", "adadpo_policy")
    }
    place = ("1e−4", "0.3")
    assert values(panels["AdaDPO"])[place] == pytest.approx(means["adadpo"])
    for title, method in (("AdaDPO", "adadpo"), ("AdaDPO, policy space", "adadpo_policy")):
        difference = values(panels[f"{title} − DPO"])[place]
        assert difference == pytest.approx(means[method] - means["dpo"])
    assert len(values(panels["DPO"])) == 16
    warm = grid_panels(rows, LC_AT_1)["AdaDPO"]
    assert values(warm)[place] == pytest.approx(0.3 + means["adadpo"] / 2)


def test_the_cells_say_their_number_and_on_hovering_the_interval(rows):
    swap = [row for row in rows if row["data"] == "swap"]
    trace = grid_panels(swap, SHIFT)["DPO"].data[0]
    j, i = trace.y.index("0.1"), trace.x.index("3e−5")
    found = closing(swap, "dpo", learning_rate=3e-5, beta=0.1)
    estimate = Estimate.of([row["shift_chosen"] for row in found])
    assert trace.text[j][i] == f"{estimate.mean:+.1f}".replace("-", "−")
    assert f"± {estimate.half_width:.1f} nats per completion (n = 4)" in trace.customdata[j][i]


def test_a_setting_that_was_not_run_is_an_empty_cell(rows):
    part = [row for row in rows if (row["learning_rate"], row["beta"]) != (1e-4, 0.3)]
    trace = grid_panels(part, LC)["DPO"].data[0]
    assert values(grid_panels(part, LC)["DPO"])["1e−4", "0.3"] is None
    assert trace.text[trace.y.index("0.3")][trace.x.index("1e−4")] == ""


def test_a_difference_in_adadpos_favour_is_adadpos_colour(rows):
    trace = grid_panels(rows, LC)["AdaDPO − DPO"].data[0]
    ends = {position: colour for position, colour in trace.colorscale}
    assert (ends[0], ends[1]) == (COLOURS["dpo"], COLOURS["adadpo"])
    assert trace.zmin == -trace.zmax < 0


def test_the_ceiling_share_is_that_after_training(rows):
    found = values(ceiling_panels(rows)["AdaDPO"])  # `run` lets it grow from 0 to β/2
    for beta in ("0.03", "0.1", "0.3", "1"):
        assert found["1e−4", beta] == pytest.approx(0.5 * float(beta))
    assert list(ceiling_panels(rows)) == ["AdaDPO", "AdaDPO, policy space"]


def test_the_curves_are_means_over_seeds_with_their_interval(rows):
    figure = curve_figure(rows, "swap", BEST)
    lines = {trace.name: trace for trace in figure.data}
    chosen, band = lines["dpo chosen"], lines["dpo chosen interval"]
    assert (chosen.line.color, chosen.line.dash) == (COLOURS["dpo"], "solid")
    assert lines["dpo rejected"].line.dash == "dash"
    assert band.fillcolor == COLOURS["dpo"]
    where = {"data": "swap", "learning_rate": BEST[0], "beta": BEST[1]}
    last = Estimate.of([row["shift_chosen"] for row in closing(rows, "dpo", **where)])
    assert last.count == len(SEEDS)
    assert (chosen.x[-1], chosen.y[-1]) == (40, pytest.approx(last.mean))
    upper, lower = band.y[2], band.y[3]  # forth along the upper edge, back along the lower
    assert (upper - lower) / 2 == pytest.approx(last.half_width)
    assert list(chosen.x) == [0, 20, 40]
    assert len(lines) == 3 * 2 * 2


def test_the_names_at_the_lines_ends_do_not_overlap_and_stay_in_the_picture(rows):
    for figure in (
        curve_figure(rows, "tone", BEST),
        ablation_figure(rows, "ceiling", LC),
        ablation_figure(made_up_results({}, noise_level=0.0), "form", SHIFT),
    ):
        layout = figure.layout
        low, high = layout.yaxis.range
        height = layout.height - layout.margin.t - layout.margin.b
        names = [a for a in layout.annotations if a.text]
        assert len(names) in (3, 6)
        placed = sorted((high - a.y) / (high - low) * height - a.yshift for a in names)
        assert all(b - a >= 15.99 for a, b in pairwise(placed))
        assert placed[0] >= 0 and placed[-1] <= height + 0.01


def test_an_ablation_has_a_line_for_each_set_with_error_bars(rows):
    figure = ablation_figure(rows, "ceiling", LC)
    assert [trace.name for trace in figure.data] == list(SETS)
    assert list(figure.data[0].x) == ["1.5", "2", "3", "5", "10"]
    low, high = figure.layout.yaxis.range
    for trace in figure.data:
        for mean, spread in zip(trace.y, trace.error_y.array, strict=True):
            assert low < mean - spread < mean + spread < high
    assert list(ablation_figure(rows, "form", LC).data[0].x) == ["stable (per token)", "raw"]
    assert list(ablation_figure(rows, "k", LC).data[0].x) == ["0.5", "1", "2"]
    assert ablation_figure([], "k", LC) is None


def test_the_two_ceiling_ablations_show_their_own_runs(rows):
    best, hard = (ablation_figure(rows, name, LC) for name in ("ceiling", "ceiling_too_hard"))
    assert best.data[0].y[-1] < best.data[0].y[1] and hard.data[0].y[-1] > hard.data[0].y[1]


def test_the_controls_are_dots_with_their_interval_at_both_temperatures(rows):
    for where, setting in (
        ("at DPO's best setting", BEST),
        ("at a setting that is too hard", HARD),
    ):
        figure = control_figure(rows, "swap", where)
        names = figure.layout.yaxis.ticktext
        assert len(names) == 13 and names[0] == "DPO" and "DPO + NLL (RPO)" in names
        cold, warm = figure.data
        assert (cold.name, warm.name) == ("T 0.7", "T 1")
        assert (cold.marker.symbol, warm.marker.symbol) == ("circle", "circle-open")
        for title, experiment, method in (
            ("AdaDPO", "controls", "adadpo"),
            ("… constant of its mean ρ", "matched", "fixed_ratio"),
            ("… constant of its mean ρ, policy", "matched_policy", "fixed_ratio"),
        ):
            runs = closing_of(rows, experiment=experiment, method=method, data="swap",
                              learning_rate=setting[0])  # fmt: skip
            assert len(runs) == len(CONTROL_SEEDS)
            i = names.index(title)
            for trace, column in ((cold, WIN_RATE.measure), (warm, lambda r: r["win_rate_at_1"])):
                estimate = Estimate.of([column(row) for row in runs])
                assert round(trace.y[i]) == i
                assert trace.x[i] == pytest.approx(estimate.mean)
                assert trace.error_x.array[i] == pytest.approx(estimate.half_width)
                assert trace.marker.color[i] == COLOURS[method]
        lines = sorted(shape.x0 for shape in figure.layout.shapes)
        assert lines == [0.5, pytest.approx(0.9)]
    assert control_figure(rows, "refusal", "at DPO's best setting") is None


def test_ablations_with_other_methods_odd_sizes_and_unknown_knobs_are_drawn(rows):
    form = [dict(row, method="ipo") if row["method"] == "adadpo_raw" else row for row in rows]
    assert "IPO" in ablation_figure(form, "form", LC).data[0].x
    unknown = [dict(row, k=None) if row["k"] == 2.0 else row for row in rows]
    assert list(ablation_figure(unknown, "k", LC).data[0].x) == ["0.5", "1"]
    huge = [dict(row, shift_chosen=1e99) for row in rows]
    assert ablation_figure(huge, "ceiling", SHIFT).data


def test_colours_are_neutral_at_half_for_shares_and_at_zero_for_nats(rows):
    share, nats = (grid_panels(rows, quantity)["DPO"].data[0] for quantity in (LC, SHIFT))
    assert (share.zmin, share.zmax) == (0, 1)
    assert nats.zmin == -nats.zmax < 0


def test_one_wild_cell_does_not_pale_all_others(rows):
    def reach(results):
        return grid_panels(results, SHIFT)["DPO"].data[0].zmax

    wild = [
        dict(row, shift_chosen=-1e4) if (row["learning_rate"], row["beta"]) == (3e-4, 1.0) else row
        for row in rows
    ]
    assert reach(rows) > 0 and reach(wild) < 2 * reach(rows)
