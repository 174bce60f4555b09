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
from adadpo_mini.paper.ablation_claims import ABLATIONS
from adadpo_mini.paper.claim_tables import (
    FOOTNOTE,
    best_settings_text,
    claim_title,
    settings_text,
    size_text,
)
from adadpo_mini.paper.claims import CLAIMS
from adadpo_mini.paper.control_claims import CONTROLS
from adadpo_mini.paper.findings import AGAINST_DPO, both_spaces
from adadpo_mini.paper.render import render
from adadpo_mini.paper.report import report_html, write_report
from tests.paper.made_up import SETS, write

TEMPLATES = Path(adadpo_mini.paper.__file__).parent / "templates"
MAPS = 5 * 5 + 2  # three methods and two differences in five rows; the ceiling share


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
        names = ("script", "td", "figcaption", "p", "li", "h2", "h3")
        self.tags, self.texts = [], {name: [] for name in names}
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
    assert kinds[:MAPS] == ["heatmap"] * MAPS
    others = len(SETS) + 2 * len(SETS) + 4 * 3  # curves; controls; ablations
    assert kinds[MAPS:] == ["scatter"] * others
    for caption, by_set in zip(captions, document.plots[:MAPS], strict=False):
        assert list(by_set) == list(SETS), caption


def test_each_row_of_heat_maps_shows_the_quantity_of_its_heading(document, rows):
    """The second map of each row, AdaDPO at the first setting, against the results."""
    columns = (
        "lc_win_rate", "lc_win_rate_at_1", "win_rate", "win_rate_at_1", "shift_chosen",
        "ceiling_share",
    )  # fmt: skip
    headings = ("LC win rate at T 0.7", "LC win rate at T 1", "Win rate at T 0.7",
                "Win rate at T 1", "Δchosen", "Share")  # fmt: skip
    assert len(document.texts["h3"]) == len(columns)
    for i, (name, column) in enumerate(zip(headings, columns, strict=True)):
        assert document.texts["h3"][i].startswith(name)
        place = 5 * i + (1 if column != "ceiling_share" else 0)
        assert document.texts["figcaption"][place] == "AdaDPO"
        figure = document.plots[place]["tone"]["data"][0]
        found = [
            row[column]
            for row in rows
            if (row["experiment"], row["data"], row["method"]) == ("grid", "tone", "adadpo")
            and (row["learning_rate"], row["beta"], row["step"]) == (1e-5, 0.03, 40)
        ]
        assert len(found) == 4
        assert figure["z"][0][0] == pytest.approx(sum(found) / len(found))


def test_curves_are_at_the_best_settings_and_ablations_say_what_they_vary(document):
    captions = document.texts["figcaption"][MAPS:]
    assert captions[0] == "near_duplicate, best for DPO and AdaDPO: learning rate 1e−4, β 0.3"
    assert captions[3:9] == [*SETS, *SETS], "the controls at both kinds of settings"
    kinds = ("LC win rate, T 0.7", "LC win rate, T 1", "Δchosen")
    assert captions[9:12] == [f"ceiling C, at AdaDPO's best setting: {kind}" for kind in kinds]
    assert captions[-3:] == [f"k: {kind}" for kind in kinds]


def test_every_axis_is_named_and_nats_are_given_as_the_unit(document):
    for by_set in document.plots:
        for figure in by_set.values():
            layout = figure["layout"]
            titles = [layout[axis].get("title", {}).get("text") for axis in ("xaxis", "yaxis")]
            if "ticktext" in layout["yaxis"]:  # the controls, by name
                assert titles[0] == "win rate"
                continue
            assert all(titles)
            if "log-prob" in titles[1] or "Δchosen" in titles[1]:
                assert "nats per completion" in titles[1]


def test_the_tables_have_a_row_for_each_claim_and_a_cell_for_each_set(document, rows):
    cells = [" ".join(cell.split()) for cell in document.texts["td"]]
    width = 2 + len(SETS)
    table = [cells[i : i + width] for i in range(0, len(cells), width)]
    order = [*CLAIMS, *(claim for claims in CONTROLS.values() for claim in claims), *ABLATIONS]
    expected = [(claim, method) for claim in order for method in claim.spaces]
    assert len(table) == len(expected)
    signs = {"holds": "✓", "fails": "✗", "undecided here": "○", "no difference": "="}
    for row, (claim, method) in zip(table, expected, strict=True):
        assert row[:2] == [claim_title(claim, method), claim.unit]
        for name, cell in zip(SETS, row[2:], strict=True):
            said = [
                f"{f'{at}: ' if at else ''}{signs.get(v.verdict, '–')} {v.verdict}{v.details}"
                for at, v in claim.verdicts(rows, name, method).items()
            ]
            assert cell == " ".join(said)


def test_a_verdict_has_the_colour_of_its_kind(document, rows):
    kinds = [
        attrs["class"] for tag, attrs in document.tags
        if tag == "span" and attrs.get("class") in ("holds", "fails", "undecided")
    ]  # fmt: skip
    verdicts = [
        verdict.verdict
        for claim in CLAIMS
        for method in claim.spaces
        for name in SETS
        for verdict in claim.verdicts(rows, name, method).values()
    ]
    expected = [word if word in ("holds", "fails") else "undecided" for word in verdicts]
    assert kinds[: len(expected)] == expected and {"holds", "fails"} <= set(kinds)


def plain(text):
    return text.replace("`", "").replace("*", "")


def test_the_page_says_how_much_was_run_what_was_found_and_how_to_read_it(document, rows):
    paragraphs = [" ".join(text.split()) for text in document.texts["p"]]
    assert paragraphs[0].startswith(
        f"Races of a toy GPT-2, from results.csv. {plain(size_text(rows, ''))}"
    )
    assert document.texts["li"] == [
        plain(f"{title}: {both_spaces(claim, rows)}") for title, claim in AGAINST_DPO.items()
    ]
    for said in (FOOTNOTE, best_settings_text(rows), *(settings_text(rows, w) for w in CONTROLS)):
        assert plain(said) in paragraphs
    assert [h for h in document.texts["h2"] if "controls" in h] == [
        f"The controls, {where}" for where in CONTROLS
    ]


def test_unfinished_results_make_a_page_too(rows, tmp_path):
    grid = [row for row in rows if row["experiment"] == "grid" and row["data"] == "tone"]
    out = tmp_path / "part.html"
    write_report(write(grid, tmp_path / "part.csv"), out)
    page = Document(out.read_text(encoding="utf-8"))
    assert len(page.plots) == MAPS + 1
    assert [text for text in page.texts["p"] if text == "No runs yet."] == ["No runs yet."] * 2
    assert all("not run" in cell for cell in page.texts["td"][-1:])


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
    values = dict.fromkeys(("size", "source", "footnote", "best"), "")
    values |= dict.fromkeys(("sets", "claims", "controls", "ablation_claims"), [])
    values |= dict.fromkeys(("grid", "curves", "ablations"), {})
    assert "<li>All is <em>well</em></li>" in render(
        "report.html", findings=["All is *well*"], **values
    )
    with pytest.raises(UndefinedError, match="'findings' is undefined"):
        render("report.html", **values)


def test_the_pages_style_and_script_are_written_into_it(file):
    text = file.read_text(encoding="utf-8")
    for name in ("page.css", "report.css", "figures.js"):
        assert (TEMPLATES / name).read_text(encoding="utf-8") in text


def test_what_cannot_be_read_or_written_is_refused_and_nothing_is_lost(rows, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        write_report(tmp_path / "none.csv", tmp_path / "report.html")
    no_grid = write([r for r in rows if r["experiment"] == "k"], tmp_path / "k.csv")
    with pytest.raises(InputError, match="has no runs of grid, which the report shows"):
        write_report(no_grid, tmp_path / "report.html")
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
    curves = "document.querySelectorAll('.plot')[27].data[0].y"
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
