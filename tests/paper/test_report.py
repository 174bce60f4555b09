"""The report: one file that asks for nothing, whose pictures show what is in the results."""

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from statistics import fmean

import pytest
from plotly.offline import get_plotlyjs

from adadpo_mini import InputError
from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.figures import COLOURS
from adadpo_mini.paper.claims import CLAIMS, verdicts
from adadpo_mini.paper.report import report_html, write_report
from adadpo_mini.paper.report_figures import (
    LC,
    SHIFT,
    ablation_figure,
    ceiling_panels,
    curve_figure,
    grid_panels,
)
from adadpo_mini.paper.results import Estimate, closing_rows
from tests.paper.test_claims import BETTER, SEEDS, SETS, made_up_results, write


@pytest.fixture(scope="module")
def rows():
    return made_up_results({**BETTER, "fixed_ratio": 0.12, "adadpo_raw": 0.02}, noise_level=0.02)


@pytest.fixture(scope="module")
def file(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    out = folder / "made" / "report.html"
    write_report(write(rows, folder / "results.csv"), out)
    return out


class Document(HTMLParser):
    """The tags with their attributes, the text of the scripts and of the cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.cells = [], [], []
        self._in = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag in ("script", "td"):
            (self.scripts if tag == "script" else self.cells).append("")

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        if self._in == "td":
            self.cells[-1] += data

    @property
    def plots(self):
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def document(file):
    return Document(file.read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_anywhere(document, file):
    loading = ("src", "href", "srcset", "data", "action", "poster", "background")
    found = [attrs for _, attrs in document.tags for name in attrs if name in loading]
    assert found == []
    tags = {tag for tag, _ in document.tags}
    assert not tags & {"link", "iframe", "object", "embed", "base", "img", "audio", "video"}
    ours = file.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert not re.search(r"https?:|//cdn|url\(|@import|fetch\(|XMLHttpRequest", ours)


def test_plotly_is_there_once_and_whole(file):
    text = file.read_text(encoding="utf-8")
    assert text.count(get_plotlyjs()) == 1
    assert text.count("* plotly.js v") == 1


def test_every_figure_has_its_place_and_every_place_its_figure(document):
    places = [a["id"] for tag, a in document.tags if tag == "div" and a.get("class") == "plot"]
    assert places == list(document.plots)
    kinds = [list(by_set.values())[0]["data"][0]["type"] for by_set in document.plots.values()]
    maps = 3 * 6 + 2  # LC, win rate, Δchosen: four methods and two differences; the ceiling share
    assert kinds[:maps] == ["heatmap"] * maps
    curves_and_ablations = kinds[maps:]
    assert set(curves_and_ablations) == {"scatter"} and len(curves_and_ablations) >= 3 + 4 * 2
    for place, by_set in list(document.plots.items())[:maps]:
        assert list(by_set) == ["", *SETS], place


def test_every_axis_is_named_and_nats_are_given_as_the_unit(document):
    for by_set in document.plots.values():
        for figure in by_set.values():
            layout = figure["layout"]
            titles = [layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
            assert all(titles)
            if "log-prob" in titles[1] or "Δchosen" in titles[1]:
                assert "nats per completion" in titles[1]


def test_the_table_has_a_row_for_each_claim_with_its_verdict(document, rows):
    table = [document.cells[i : i + 6] for i in range(0, len(document.cells), 6)]
    assert len(table) == len(CLAIMS)
    for cells, verdict in zip(table, verdicts(rows), strict=True):
        assert cells[0] == verdict.claim and cells[1].endswith(verdict.verdict)
        assert cells[2:4] == [verdict.effect_text, verdict.interval_text]
        assert cells[4:] == [str(verdict.runs), verdict.note]


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
        "AdaDPO", "DPO", "AdaDPO − DPO", "AdaDPO, policy space", "fixed ratio",
        "AdaDPO − fixed ratio",
    ]  # fmt: skip
    where = {"learning_rate": 1e-4, "beta": 0.3}
    means = {
        method: fmean(row["lc_win_rate"] for row in closing(rows, method, **where))
        for method in ("adadpo", "dpo", "fixed_ratio")
    }
    place = ("1e−4", "0.3")
    assert values(panels["AdaDPO"])[place] == pytest.approx(means["adadpo"])
    for title, rival in (("AdaDPO − DPO", "dpo"), ("AdaDPO − fixed ratio", "fixed_ratio")):
        assert values(panels[title])[place] == pytest.approx(means["adadpo"] - means[rival])
    assert len(values(panels["DPO"])) == 16


def test_the_cells_say_their_number_and_on_hovering_the_interval(rows):
    swap = [row for row in rows if row["data"] == "swap"]
    trace = grid_panels(swap, SHIFT)["DPO"].data[0]
    j, i = trace.y.index("0.1"), trace.x.index("5e−5")
    found = closing(swap, "dpo", learning_rate=5e-5, beta=0.1)
    estimate = Estimate.of([row["shift_chosen"] for row in found])
    assert trace.text[j][i] == f"{estimate.mean:+.1f}".replace("-", "−")
    assert f"± {estimate.half_width:.1f} nats per completion (n = 5)" in trace.customdata[j][i]


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


def test_the_ceiling_share_is_a_mean_over_the_steps_after_the_first(rows):
    # `run` lets it grow from 0 to β/2, so that at half and at the end it is 3/8 of β on average.
    found = values(ceiling_panels(rows)["AdaDPO"])
    for beta in ("0.05", "0.1", "0.3", "1"):
        assert found["2e−4", beta] == pytest.approx(0.375 * float(beta))


def test_the_curves_are_means_over_seeds_with_their_interval(rows):
    figure = curve_figure(rows, "swap", (2e-4, 0.1))
    lines = {trace.name: trace for trace in figure.data}
    chosen, band = lines["dpo chosen"], lines["dpo chosen interval"]
    assert (chosen.line.color, chosen.line.dash) == (COLOURS["dpo"], "solid")
    assert lines["dpo rejected"].line.dash == "dash"
    assert band.fillcolor == COLOURS["dpo"]
    where = {"data": "swap", "learning_rate": 2e-4, "beta": 0.1}
    last = Estimate.of([row["shift_chosen"] for row in closing(rows, "dpo", **where)])
    assert last.count == len(SEEDS)
    assert (chosen.x[-1], chosen.y[-1]) == (40, pytest.approx(last.mean))
    upper, lower = band.y[2], band.y[3]  # forth along the upper edge, back along the lower
    assert (upper - lower) / 2 == pytest.approx(last.half_width)
    assert len(lines) == 4 * 2 * 2


def test_the_names_at_the_lines_ends_do_not_overlap_and_stay_in_the_picture(rows):
    for figure in (
        curve_figure(rows, "tone", (2e-4, 0.1)),
        ablation_figure(rows, "ceiling", LC),
        ablation_figure(made_up_results({}, noise_level=0.0), "form", SHIFT),
    ):
        layout = figure.layout
        low, high = layout.yaxis.range
        height = layout.height - layout.margin.t - layout.margin.b
        names = [a for a in layout.annotations if a.text]
        assert len(names) in (3, 8)
        placed = sorted((high - a.y) / (high - low) * height - a.yshift for a in names)
        assert all(b - a >= 15.99 for a, b in pairwise(placed))
        assert placed[0] >= 0 and placed[-1] <= height + 0.01


def test_an_ablation_has_a_line_for_each_set_with_error_bars(rows):
    figure = ablation_figure(rows, "ceiling", LC)
    assert [trace.name for trace in figure.data] == list(SETS)
    assert list(figure.data[0].x) == ["1.5", "2", "5", "10"]
    low, high = figure.layout.yaxis.range
    for trace in figure.data:
        for mean, spread in zip(trace.y, trace.error_y.array, strict=True):
            assert low < mean - spread < mean + spread < high
    assert list(ablation_figure(rows, "floor", LC).data[0].x) == ["none", "1"]
    assert list(ablation_figure(rows, "form", LC).data[0].x) == ["stable", "policy space", "raw"]
    assert ablation_figure([], "k", LC) is None


def test_results_of_a_single_run_and_names_that_look_like_html_make_a_page_too(rows):
    evil = "</script><script>alert(1)</script>"
    single = [
        dict(row, data=evil)
        for row in rows
        if (row["data"], row["seed"], row["method"]) == ("tone", 0, "adadpo")
        and row["experiment"] == "grid" and row["beta"] == 0.1
    ]  # fmt: skip
    document = Document(report_html(single, f"{evil}.csv"))
    assert len(document.scripts) == 3 and not any("alert(1)" in s for s in document.scripts[1:])
    assert any(evil in by_set for by_set in document.plots.values())


def test_what_cannot_be_read_or_written_is_told_and_nothing_is_lost(rows, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        write_report(tmp_path / "none.csv", tmp_path / "report.html")
    results, out = write(rows[:3], tmp_path / "results.html"), tmp_path / "report.html"
    before = results.read_bytes()
    assert main(["report", str(results)]) == 2, "by default the report has this very name"
    assert results.read_bytes() == before
    assert main(["report", "."]) == 2
    monkeypatch.setattr(
        "adadpo_mini.paper.report.report_html", lambda *_: pytest.fail("told before")
    )
    for place, said in ((tmp_path, "folder"), (results / "report.html", "not a folder")):
        with pytest.raises(WriteError, match=said):
            write_report(results, place)
    monkeypatch.setattr("adadpo_mini.paper.report.report_html", lambda *_: 1 / 0)
    out.write_text("before")
    with pytest.raises(ZeroDivisionError):
        write_report(results, out)
    assert out.read_text() == "before"


def test_ablations_with_other_methods_odd_sizes_and_unknown_knobs_are_drawn(rows):
    form = [dict(row, method="ipo") if row["method"] == "adadpo_raw" else row for row in rows]
    assert "IPO" in ablation_figure(form, "form", LC).data[0].x
    unknown = [dict(row, k=None) if row["k"] == 2.0 else row for row in rows]
    assert list(ablation_figure(unknown, "k", LC).data[0].x) == ["0.5", "1"]
    huge = [dict(row, shift_chosen=1e99) for row in rows]
    assert ablation_figure(huge, "ceiling", SHIFT).data


@pytest.fixture(scope="module")
def chrome():
    playwright = pytest.importorskip("playwright.sync_api")
    from tests.browser.live import browser

    try:
        with browser() as running:
            yield running
    except playwright.Error as problem:
        pytest.skip(f"no Chromium on this machine: {str(problem).splitlines()[0]}")


def opened(chrome, file, width, scheme):
    context = chrome.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(120_000)  # generous; timing belongs to the bench
    page = context.new_page()
    page.asked, page.problems = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function("document.body.dataset.drawn")
    return page


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_in_a_browser_all_is_drawn_nothing_asked_for_and_nothing_cut_off(
    chrome, file, document, width, scheme
):
    page = opened(chrome, file, width, scheme)
    drawn = page.evaluate("document.querySelectorAll('.plot .main-svg').length > 0 && "
                          "document.querySelectorAll('.plot.js-plotly-plot').length")  # fmt: skip
    assert drawn == len(document.plots)
    assert set(page.asked) == {file.as_uri()} and page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink = page.evaluate("document.querySelector('.plot')._fullLayout.font.color")
    assert ink == {"light": "#23272e", "dark": "#e3e6eb"}[scheme]
    page.context.close()


def test_in_a_browser_a_data_set_can_be_chosen_and_the_colours_follow_the_system(
    chrome, file, document
):
    page = opened(chrome, file, 1280, "light")
    page.locator("#data-set").select_option("swap")
    page.wait_for_function(
        "(wanted) => document.querySelector('#plot-0').data[0].text[0][0] === wanted",
        arg=document.plots["plot-0"]["swap"]["data"][0]["text"][0][0],
    )
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(p => p._fullLayout.font.color === '#e3e6eb')"
    )
    assert page.problems == []
    page.context.close()
