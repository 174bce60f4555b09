"""The report: one file that loads nothing else, with verdicts and figures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import UndefinedError
from plotly.offline import get_plotlyjs

import adadpo_mini.paper
from adadpo_mini import InputError
from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.paper.claims import CLAIMS, FOOTNOTE, headline, verdicts
from adadpo_mini.paper.render import render
from adadpo_mini.paper.report import Size, report_html, write_report
from tests.paper.made_up import SETS, write

TEMPLATES = Path(adadpo_mini.paper.__file__).parent / "templates"


@pytest.fixture(scope="module")
def file(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    out = folder / "made" / "report.html"
    write_report(write(rows, folder / "results.csv"), out)
    return out


class Document(HTMLParser):
    """The tags with their attributes, and the text of scripts, captions, paragraphs and cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], {"script": [], "td": [], "figcaption": [], "p": [], "h3": []}
        self._in = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in self.texts:
            self._in = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag):
        self._in = None if tag == self._in else self._in

    def handle_data(self, data):
        if self._in:
            self.texts[self._in][-1] += data

    @property
    def plots(self):
        """[{choice: figure}] in the order of the page."""
        kinds = [attrs.get("type") for tag, attrs in self.tags if tag == "script"]
        scripts = zip(kinds, self.texts["script"], strict=True)
        return [json.loads(text) for kind, text in scripts if kind == "application/json"]


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


def test_no_part_of_a_template_is_left_in_the_page(file):
    ours = file.read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    ours = re.sub(r'<script type="application/json">.*', "", ours)  # plotly's own %{x}
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|#\}", ours)


def test_every_figure_has_a_place_a_caption_and_data(document):
    places = [attrs for tag, attrs in document.tags if attrs.get("class") == "plot"]
    captions = document.texts["figcaption"]
    assert [attrs["aria-label"] for attrs in places] == captions
    assert len(document.plots) == len(captions) and all(captions)
    kinds = [list(by_set.values())[0]["data"][0]["type"] for by_set in document.plots]
    maps = 3 * 6 + 2  # LC, win rate, Δchosen: four methods and two differences; the ceiling share
    assert kinds[:maps] == ["heatmap"] * maps
    curves_and_ablations = kinds[maps:]
    assert set(curves_and_ablations) == {"scatter"} and len(curves_and_ablations) >= 3 + 4 * 2
    for caption, by_set in zip(captions, document.plots[:maps], strict=False):
        assert list(by_set) == ["", *SETS], caption


def test_each_row_of_heat_maps_shows_the_quantity_of_its_heading(document, rows):
    """The first map of each row, AdaDPO at the first setting, against the results."""
    columns = ("lc_win_rate", "win_rate", "shift_chosen", "ceiling_share")
    assert len(document.texts["h3"]) == len(columns)
    for i, (name, column) in enumerate(zip(("LC", "Win", "Δ", "Share"), columns, strict=True)):
        assert document.texts["h3"][i].startswith(name)
        figure = document.plots[6 * i]["tone"]["data"][0]
        found = [
            row[column]
            for row in rows
            if (row["experiment"], row["data"], row["method"]) == ("grid", "tone", "adadpo")
            and (row["learning_rate"], row["beta"]) == (5e-5, 0.05)
            and (row["step"] > 0 if column == "ceiling_share" else row["step"] == row["steps"])
        ]
        assert figure["z"][0][0] == pytest.approx(sum(found) / len(found))


def test_curves_are_at_the_best_settings_and_ablations_say_what_they_vary(document):
    captions = document.texts["figcaption"][20:]
    assert captions[0] == "near_duplicate, best for DPO and AdaDPO: learning rate 2e−4, β 0.1"
    ablations = captions[-10:]
    assert ablations[:2] == ["ceiling C: LC win rate", "ceiling C: Δchosen"]
    assert ablations[-2:] == ["floor: LC win rate", "floor: Δchosen"]


def test_every_axis_is_named_and_nats_are_given_as_the_unit(document):
    for by_set in document.plots:
        for figure in by_set.values():
            layout = figure["layout"]
            titles = [layout[axis]["title"]["text"] for axis in ("xaxis", "yaxis")]
            assert all(titles)
            if "log-prob" in titles[1] or "Δchosen" in titles[1]:
                assert "nats per completion" in titles[1]


def test_the_table_has_a_row_for_each_claim_with_its_verdict(document, rows):
    cells = document.texts["td"]
    table = [cells[i : i + 6] for i in range(0, len(cells), 6)]
    assert len(table) == len(CLAIMS)
    marks = {"holds": "✓", "fails": "✗", "undecided here": "○"}
    kinds = [attrs["class"] for tag, attrs in document.tags if tag == "tr" and attrs]
    for row, kind, verdict in zip(table, kinds, verdicts(rows), strict=True):
        assert row[0] == verdict.claim
        assert row[1] == f"{marks[verdict.verdict]} {verdict.verdict}"
        assert kind == verdict.verdict.removesuffix(" here")
        assert row[2:4] == [verdict.effect_text, verdict.interval_text]
        assert row[4:] == [str(verdict.runs), verdict.note]


def test_the_page_says_how_much_was_run_the_headline_and_how_to_read_the_table(document, rows):
    paragraphs = [" ".join(text.split()) for text in document.texts["p"]]
    runs = 3 * 5 * (16 * 4 + 4 + 4 + 2 + 1 + 1)
    assert paragraphs[0].startswith(f"{runs:,} runs of a toy GPT-2 from results.csv")
    assert "16 settings of learning rate and β, 5 seeds, 3 data sets" in paragraphs[0]
    assert paragraphs[1] == headline(rows) and FOOTNOTE in paragraphs


def test_results_of_a_single_run_and_names_that_look_like_html_make_a_page_too(rows):
    evil = "</script><script>alert(1)</script>"
    single = [
        dict(row, data=evil)
        for row in rows
        if (row["data"], row["seed"], row["method"]) == ("tone", 0, "adadpo")
        and row["experiment"] == "grid" and row["beta"] == 0.1
    ]  # fmt: skip
    page = Document(report_html(single, f"{evil}.csv"))
    assert any(evil in by_set for by_set in page.plots)
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds == ["application/json"] * len(page.plots) + [None] * 2
    assert not any("alert(1)" in script for script in page.texts["script"][-2:])
    assert evil in page.texts["p"][0] and evil in page.texts["figcaption"][-1]


def test_a_value_that_a_template_reads_and_does_not_get_is_an_error():
    size = Size(runs=1, settings=1, seeds=1, sets=["tone"])
    values = {"size": size, "source": "x.csv", "footnote": "", "grid_sets": [], "verdicts": []}
    values |= dict.fromkeys(("grid", "curves", "ablations"), {})
    assert "All is well" in render("report.html", headline="All is well", **values)
    with pytest.raises(UndefinedError, match="'headline' is undefined"):
        render("report.html", **values)


def test_the_pages_style_and_script_are_written_into_it(file):
    text = file.read_text(encoding="utf-8")
    for name in ("page.css", "report.css", "figures.js"):
        assert (TEMPLATES / name).read_text(encoding="utf-8") in text


def test_what_cannot_be_read_or_written_is_refused_and_nothing_is_lost(rows, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        write_report(tmp_path / "none.csv", tmp_path / "report.html")
    results, out = write(rows[:3], tmp_path / "results.html"), tmp_path / "report.html"
    before = results.read_bytes()
    assert main(["report", str(results)]) == 2, "by default the report has this very name"
    assert results.read_bytes() == before
    monkeypatch.setattr(
        "adadpo_mini.paper.report.report_html", lambda *_: pytest.fail("drawn before the check")
    )
    for place, said in ((tmp_path, "folder"), (results / "report.html", "not a folder")):
        with pytest.raises(WriteError, match=said):
            write_report(results, place)
    monkeypatch.setattr("adadpo_mini.paper.report.report_html", lambda *_: 1 / 0)
    out.write_text("before")
    with pytest.raises(ZeroDivisionError):
        write_report(results, out)
    assert out.read_text() == "before"


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
def test_in_a_browser_all_is_drawn_nothing_is_requested_and_nothing_cut_off(
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
    curves = "document.querySelectorAll('.plot')[20].data[0].y"
    before = page.evaluate(curves)
    page.locator("#data-set").select_option("swap")
    page.wait_for_function(
        "(wanted) => document.querySelector('.plot').data[0].text[0][0] === wanted",
        arg=document.plots[0]["swap"]["data"][0]["text"][0][0],
    )
    assert page.evaluate(curves) == before, "curves do not depend on the choice"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "[...document.querySelectorAll('.plot')].every(p => p._fullLayout.font.color === '#e3e6eb')"
    )
    assert page.problems == []
    page.context.close()
