"""The README's first screen is what `python -m tests.bench.readme` writes from the results."""

import json
import re

import pytest

from adadpo_mini import RaceConfig, race
from adadpo_mini.figures import LABELS
from adadpo_mini.pairs import load_pairs
from adadpo_mini.paper.experiments import PAPER
from tests.bench.readme import (
    AT_ITS_BEST,
    PICTURE,
    QUESTIONS,
    RACE,
    README,
    RESULTS,
    SHOWN,
    finding,
    pair_table,
    race_picture,
    texts,
)

FOUND = json.loads(RACE.read_text(encoding="utf-8"))
METHODS = FOUND["settings"]["methods"]
SIDES = [(method, side) for method in METHODS for side in ("chosen", "rejected")]


@pytest.mark.parametrize("place", range(len(texts())))
def test_a_document_holds_what_the_command_writes(place):
    document, name, text = texts()[place]
    begin, end = f"<!-- {name}:begin -->\n", f"\n<!-- {name}:end -->"
    assert document.read_text(encoding="utf-8").split(begin)[1].split(end)[0] == text


def test_the_committed_race_has_the_settings_of_the_page_after_start():
    unset = {"threads": None, "ratio": RaceConfig.ratio}  # both are found when the race begins
    settings = {**FOUND["settings"], "methods": tuple(METHODS), **unset}
    default = RaceConfig(methods=("dpo", "adadpo", "fixed_ratio"), match_ratio=True)
    assert RaceConfig(**settings) == default
    assert METHODS[:2] == list(RaceConfig().methods)


def test_the_pair_is_the_first_that_is_held_out_and_stands_in_the_readme_word_for_word():
    pair = load_pairs("tone", split="test")[0]
    assert FOUND["pair"] == dict(pair)
    cells = [line.strip("| ").split(" | ") for line in pair_table(FOUND).splitlines()[2:]]
    said = [FOUND["answers"][name] for name in SHOWN]
    assert [cell[1] for cell in cells] == [pair["chosen"], pair["rejected"], *said]
    assert f"|  | {pair['prompt'].strip()} |" in README.read_text(encoding="utf-8")


def test_the_race_that_the_package_runs_today_begins_as_the_committed_one():
    steps = 10
    ratio = FOUND["settings"]["ratio"]
    result = race("tone", methods=tuple(METHODS), steps=steps, ratio=ratio, measure_every=0)
    for method, side in SIDES:
        name = f"eval_shift/{side}"
        now = {event["step"]: event[name] for event in result.events[method] if name in event}
        then = {event["step"]: event[name] for event in FOUND["events"][method]}
        common = [step for step in then if step in now and 0 < step <= steps]
        assert len(common) >= 2
        assert [now[step] for step in common] == pytest.approx(
            [then[step] for step in common], abs=0.05
        ), (method, side)


def test_the_picture_shows_the_committed_events():
    """Each curve of the SVG, read back from its pixels: one linear scale fits them all."""
    svg = PICTURE.read_text(encoding="utf-8")
    paths = re.findall(r'class="js-line" d="M([^"]+)"', svg)
    drawn = [[tuple(map(float, at.split(","))) for at in path.split("L")] for path in paths]
    wanted = [
        [(event["step"], event[f"eval_shift/{side}"]) for event in FOUND["events"][method]]
        for method, side in SIDES
    ]
    assert [len(curve) for curve in drawn] == [len(curve) for curve in wanted]
    pixels = [at for curve in drawn for at in curve]
    values = [at for curve in wanted for at in curve]
    for axis in (0, 1):
        low = min(range(len(values)), key=lambda i: values[i][axis])
        high = max(range(len(values)), key=lambda i: values[i][axis])
        scale = pixels[high][axis] - pixels[low][axis]
        scale /= values[high][axis] - values[low][axis]
        for pixel, value in zip(pixels, values, strict=True):
            expected = pixels[low][axis] + scale * (value[axis] - values[low][axis])
            assert pixel[axis] == pytest.approx(expected, abs=0.05)
        assert scale * (1, -1)[axis] > 0, "time goes right, log-probs go up"


def test_every_curve_of_the_picture_is_named_at_its_end_and_no_two_names_overlap():
    figure = race_picture(FOUND["events"])
    svg = PICTURE.read_text(encoding="utf-8")
    names = [note for note in figure.layout.annotations if "<b>" in (note.text or "")]
    ends = {trace.name: trace.y[-1] for trace in figure.data}
    for method, side in SIDES:
        value = f"{ends[f'{method} {side}']:+.1f}".replace("-", "−")
        text = f"<b>{LABELS[method]} {side}</b> {value}"
        assert text in [note.text for note in names]
        assert f"{LABELS[method]} {side}" in svg and value in svg
    low, high = figure.layout.yaxis.range
    room = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    centres = sorted((high - note.y) * room / (high - low) - note.yshift for note in names)
    assert all(lower - upper > 14 for upper, lower in zip(centres, centres[1:], strict=False))


def test_the_finding_names_every_set_of_the_sweep_under_each_question():
    text = finding(RESULTS / "paper.csv")
    for question in (*QUESTIONS, *AT_ITS_BEST):
        answer = text.split(f"{question}: ")[1].split(";")[0].split(" ([")[0]
        named = sorted(re.findall(r"`(\w+)`", answer))
        assert named == sorted(PAPER.data) or answer.endswith((" every set", " any set")), question
