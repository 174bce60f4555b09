"""Tables for documents, and putting them between their markers."""

import random
import re
import subprocess
import sys

import pytest
from scipy import stats

from adadpo_mini import InputError
from adadpo_mini.paper.tables import sets_table, write_between
from tests.paper.made_up import run, write

SHIFTS = {("tone", "dpo"): (-8.0, -9.5, -12.5), ("tone", "adadpo"): (0.5, 1.0, 3.0)}
WIN_RATES = {("tone", "dpo"): (0.25, 0.5, 0.5), ("tone", "adadpo"): (0.75, 0.75, 1.0)}


def sets_results(**changes):
    """The ends of runs of two methods on one set with three seeds."""
    rows = []
    for (data, method), shifts in SHIFTS.items():
        for seed, shift in enumerate(shifts):
            *_, last = run("sets", data, method, seed, 2e-4, 0.1, 0.5, random.Random(0))
            last |= {"shift_chosen": shift, "shift_rejected": -2 * abs(shift)}
            rows.append({**last, "win_rate": WIN_RATES[data, method][seed]})
            rows[-1] |= changes.get(method, {})
    return rows


def cells(table):
    """{row's name: its other cells} of a Markdown table, the head included."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


def interval(values, form):
    """Mean ± half of the 95 % t interval, by scipy."""
    mean = sum(values) / len(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return f"{mean:{form}} ± {(high - low) / 2:{form.strip('+')}}".replace("-", "−")


def test_each_cell_is_the_mean_over_seeds_with_its_interval(tmp_path):
    text = sets_table(write(sets_results(), tmp_path / "sets.csv"))
    shifts, win_rates, caption = text.split("\n\n")
    assert cells(shifts)["Δchosen / Δrejected"] == cells(win_rates)["win rate"] == ["dpo", "adadpo"]
    for column, method in enumerate(("dpo", "adadpo")):
        chosen = SHIFTS["tone", method]
        rejected = [-2 * abs(value) for value in chosen]
        wanted = f"{interval(chosen, '+.1f')} / {interval(rejected, '+.1f')}"
        assert cells(shifts)["`tone`"][column] == wanted
        won = interval(WIN_RATES["tone", method], ".2f")
        assert cells(win_rates)["`tone`"][column] == won
    assert caption.startswith("40 steps of 16 pairs, β = 0.1, learning rate 0.0002, 3 seeds")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (sets_results(dpo={"steps": 41, "step": 41}), "differ in settings"),
        (sets_results(dpo={"batch_size": 8}), "differ in settings"),
        (sets_results(dpo={"beta": 0.2}), "differ in settings"),
        (sets_results(dpo={"learning_rate": 1e-4}), "differ in settings"),
        (sets_results()[:-1], "some are missing"),
        (sets_results() + [r | {"data": "swap"} for r in sets_results()[:3]], "some are missing"),
        (sets_results(dpo={"win_rate": None}), "a run of dpo on tone has no win_rate"),
    ],
)  # fmt: skip
def test_runs_that_do_not_make_one_table_are_refused(rows, message, tmp_path):
    path = write(rows, tmp_path / "sets.csv")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}: .*{message}"):
        sets_table(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_goes_between_its_markers_and_all_else_stays(tmp_path, end):
    document = tmp_path / "README.md"
    before = ["\ufeffbefore", "<!-- a:begin -->", "old", "<!-- a:end -->", "<!-- b:begin -->", "ρ"]
    document.write_bytes(end.join(before).encode())
    write_between(document, "a", "new\nlines")
    assert document.read_bytes().decode() == end.join([*before[:2], "new", "lines", *before[3:]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!-- b:begin --><!-- b:end -->", "lacks the lines <!-- a:begin -->"),
        (b"<!-- a:begin -->", "lacks the lines <!-- a:begin -->"),
        (b"<!-- a:end --><!-- a:begin -->", "once, and then <!-- a:end --> once"),
        (2 * b"<!-- a:begin --><!-- a:end -->", "once, and then <!-- a:end --> once"),
        (b"\xff<!-- a:begin --><!-- a:end -->", "is not UTF-8"),
        (None, "is a folder"),
    ],
)
def test_a_document_without_the_markers_is_refused_and_unchanged(content, said, tmp_path):
    document = tmp_path / "README.md"
    document.mkdir() if content is None else document.write_bytes(content)
    with pytest.raises(InputError, match=said):
        write_between(document, "a", "new")
    assert content is None or document.read_bytes() == content
    with pytest.raises(InputError, match="no such document"):
        write_between(tmp_path / "none.md", "a", "new")


def test_two_processes_that_write_into_one_document_both_get_in(tmp_path):
    document = tmp_path / "README.md"
    names = ("a", "b")
    document.write_text("".join(f"<!-- {n}:begin --><!-- {n}:end -->" for n in names))
    code = (
        "import sys; from pathlib import Path; from adadpo_mini.paper.tables import write_between\n"
        "for n in range(200): write_between(Path(sys.argv[1]), sys.argv[2], f'{sys.argv[2]}={n}')"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, document, name]) for name in names]
    assert [run.wait() for run in runs] == [0, 0]
    assert "a=199" in document.read_text() and "b=199" in document.read_text()
