"""Tables of races in Markdown, and putting them between their markers in a document."""

import random
import re
import subprocess
import sys

import pytest
from scipy import stats

from adadpo_mini import InputError
from adadpo_mini.paper.experiments import ARCS
from adadpo_mini.paper.set_tables import COLUMNS
from adadpo_mini.paper.tables import TABLES, table, write_between
from tests.paper.made_up import run, write

METHODS = list(COLUMNS.values())
SHIFTS = ((-8.0, -9.5, -12.5), (0.5, 1.0, 3.0), (0.4, 1.1, 2.9), (1.0, 2.0, 4.0))
WIN_RATES = ((0.25, 0.5, 0.5), (0.75, 0.75, 1.0), (0.7, 0.8, 0.9), (0.8, 0.9, 1.0))


def ends(experiment, method, seeds, setting=(1e-4, 1.0), data="tone", judged=(40,)):
    """The judged rows of a method's runs."""
    for seed in range(seeds):
        rows = run(experiment, data, method, seed, setting, 0.5, random.Random(seed), judged)
        yield from (row for row in rows if row["step"] in judged)


def sets_results(data="tone", **changes):
    """The ends of runs of every column on one set with three seeds."""
    rows = []
    for (experiment, method), shifts, won in zip(METHODS, SHIFTS, WIN_RATES, strict=True):
        for row in ends(experiment, method, 3, data=data):
            shift = shifts[row["seed"]]
            row |= {"shift_chosen": shift, "shift_rejected": -2 * abs(shift)}
            row |= {"win_rate": won[row["seed"]], "win_rate_at_1": won[row["seed"]] / 2}
            rows.append(row | changes.get(method, {}))
    return rows


def cells(text):
    """{row's first cells: its other cells} of a Markdown table, the head included."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


def interval(values, form):
    """Mean ± half of the 95 % t interval, by scipy."""
    mean = sum(values) / len(values)
    low, high = stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values))
    return f"{mean:{form}} ± {(high - low) / 2:{form.strip('+')}}".replace("-", "−")


def test_each_cell_of_the_sets_is_the_mean_over_seeds_with_its_interval(tmp_path):
    path = write(sets_results() + sets_results("swap", dpo={"win_rate": 0.125}), tmp_path / "x.csv")
    shifts, win_rates, caption = table("sets", path).split("\n\n")
    assert cells(shifts)["Δchosen / Δrejected"] == list(COLUMNS)
    assert cells(win_rates)["win rate"] == [*COLUMNS, "a perfect model", "AdaDPO's mean ρ"]
    for column in range(len(METHODS)):
        chosen, won = SHIFTS[column], WIN_RATES[column]
        rejected = [-2 * abs(value) for value in chosen]
        wanted = f"{interval(chosen, '+.1f')} / {interval(rejected, '+.1f')}"
        assert cells(shifts)["`tone`"][column] == wanted
        cold, warm = interval(won, ".2f"), interval([rate / 2 for rate in won], ".2f")
        assert cells(win_rates)["`tone`"][column] == f"{cold}; T 1: {warm}"
    assert cells(win_rates)["`swap`"][0].startswith("0.12 ± 0.00; T 1: ")
    assert cells(win_rates)["`tone`"][-2] == "0.90"
    assert cells(win_rates)["`tone`"][-1].startswith("1.2")
    assert caption.startswith("40 steps of 8 pairs, β = 1, learning rate 0.0001, 3 seeds")
    assert "to 100 held-out prompts, both sampled at temperature 0.7, and at 1 where" in caption


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (sets_results(dpo={"steps": 41, "step": 41}), "differ in settings"),
        (sets_results(dpo={"batch_size": 9}), "differ in settings"),
        (sets_results(dpo={"beta": 0.2}), "differ in settings"),
        (sets_results(dpo={"learning_rate": 1e-5}), "differ in settings"),
        (sets_results(dpo={"prompts": 50}), "differ in settings"),
        (sets_results()[:-1], "some are missing"),
        (sets_results() + sets_results("swap")[:3], "some are missing"),
        ([row for row in sets_results() if row["experiment"] == "sets"], "finish the sweep"),
        (sets_results(dpo={"win_rate": None}), "a run has no win_rate"),
        ([r for r in sets_results() if r["experiment"] != "sets"], "has no runs of sets"),
    ],
)  # fmt: skip
def test_runs_that_do_not_make_one_table_are_refused(rows, message, tmp_path):
    path = write(rows, tmp_path / "sets.csv")
    with pytest.raises(InputError, match=f"^{re.escape(str(path))}:? .*{message}"):
        table("sets", path)


def beta_results():
    return [
        row | {"kl": 2.0 * beta, "win_rate": 0.5 + beta / 10, "win_rate_at_1": beta / 10}
        for beta in (0.1, 1.0)
        for method in ("dpo", "adadpo")
        for row in ends("beta", method, 3, (1e-4, beta))
    ]


def test_the_table_of_betas_has_a_row_for_each_method_and_beta(tmp_path):
    text, size = table("beta", write(beta_results(), tmp_path / "beta.csv")).split("\n\n")
    lines = [line.strip("|").split(" | ") for line in text.splitlines()]
    lines = [[cell.strip() for cell in line] for line in lines]
    assert [line[:2] for line in lines[2:]] == [
        ["DPO", "0.1"], ["DPO", "1"], ["AdaDPO", "0.1"], ["AdaDPO", "1"],
    ]  # fmt: skip
    assert lines[0][2:5] == ["KL to the reference, nats", "win rate", "win rate, T 1"]
    assert lines[2][2:5] == ["0.2 ± 0.0", "0.51 ± 0.00", "0.01 ± 0.00"]
    assert lines[3][2:5] == ["2.0 ± 0.0", "0.60 ± 0.00", "0.10 ± 0.00"]
    assert size.startswith("`tone`, 40 steps of 8 pairs, learning rate 0.0001, 3 seeds.")


def arcs_results():
    return [
        row | {"win_rate": row["step"] / 100, "kl": float(i)}
        for i, name in enumerate(ARCS)
        for method in ("dpo", "adadpo")
        for row in ends(name, method, 2, (10.0 ** -(i + 3), 0.1), judged=(20, 40))
    ]


def test_the_table_of_the_arcs_has_a_row_for_each_judged_step(tmp_path):
    text, *sizes = table("arcs", write(arcs_results(), tmp_path / "arcs.csv")).split("\n\n")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()][2:]
    assert [line[:3] for line in lines] == [
        [f"`{name}`", label, step]
        for name in ARCS
        for label in ("DPO", "AdaDPO")
        for step in ("20", "40")
    ]
    assert [line[3:5] for line in lines[:2]] == [
        ["0.0 ± 0.0", "0.20 ± 0.00"], ["0.0 ± 0.0", "0.40 ± 0.00"],
    ]  # fmt: skip
    assert lines[-1][3] == "2.0 ± 0.0"
    assert [size.split(":")[0] for size in sizes[:-1]] == [f"`{name}`" for name in ARCS]
    assert "learning rate 0.001, β = 0.1, 2 seeds." in sizes[0]


@pytest.mark.parametrize("kind", ["beta", "arcs"])
def test_an_unfinished_table_of_betas_or_arcs_is_refused(kind, tmp_path):
    rows = {"beta": beta_results, "arcs": arcs_results}[kind]()
    for part in (rows[:-1], rows[: len(rows) // 2 + 1], [dict(rows[0], prompts=9), *rows[1:]]):
        path = write(part, tmp_path / "part.csv")
        with pytest.raises(InputError, match="finish the sweep"):
            table(kind, path)


def test_a_table_names_the_sweep_that_makes_its_results(tmp_path):
    plans = {"claims": "paper", "findings": "paper", "sets": "sets", "beta": "beta", "arcs": "arcs"}
    assert set(plans) == set(TABLES)
    path = write(list(ends("other", "dpo", 1)), tmp_path / "other.csv")
    for kind, plan in plans.items():
        with pytest.raises(InputError, match=f"`adadpo-mini sweep {plan}`"):
            table(kind, path)


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
