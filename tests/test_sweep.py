"""Sweeps: resumed without running anything twice, and tables that say what is in the file."""

import math

import pytest

from adadpo_mini import InputError, RaceConfig
from adadpo_mini.sweep import (
    BEGIN,
    END,
    Estimate,
    read_results,
    results_table,
    run_race,
    sweep,
    write_table,
)
from adadpo_mini.toyworld import data_dir

ROOT = data_dir().parent


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(configs, file) of a sweep of two tiny races."""
    out = tmp_path_factory.mktemp("sweep") / "results.csv"
    tiny = {"steps": 2, "batch_size": 2, "eval_pairs": 2}
    configs = [RaceConfig(data="tone", seed=seed, **tiny) for seed in (0, 1)]
    assert list(sweep(configs, out, processes=1)) == [0, 1, 2]
    return configs, out


def test_a_sweep_writes_a_row_for_each_race_and_method(swept):
    rows = read_results(swept[1])
    assert sorted((r["data"], r["seed"], r["method"]) for r in rows) == [
        ("tone", seed, method) for seed in "01" for method in ("adadpo", "dpo")
    ]
    assert all(math.isfinite(float(row["delta_chosen"])) for row in rows)


def test_a_sweep_that_is_done_runs_nothing(swept):
    before = swept[1].read_bytes()
    assert list(sweep(*swept, processes=1)) == [2]
    assert swept[1].read_bytes() == before


def test_a_sweep_goes_on_where_it_was_cut_off_with_the_same_numbers(swept, tmp_path):
    configs, whole = swept
    lines = whole.read_text().splitlines(keepends=True)
    part = tmp_path / "part.csv"
    part.write_text("".join(lines[:3]))  # the header and the first race
    assert list(sweep(configs, part, processes=1)) == [1, 2]
    assert sorted(part.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def test_the_estimate_is_students_t():
    # t(0.975, 3) = 3.182446; the values' standard deviation is sqrt(5/3).
    estimate = Estimate.of([1.0, 2.0, 3.0, 4.0])
    assert estimate.mean == 2.5
    assert estimate.half_width == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2)
    assert Estimate(-1.26, 0.5, 3).text() == "−1.3 ± 0.5"
    assert math.isnan(Estimate.of([1.0]).half_width)


def test_the_table_goes_between_the_markers_and_nowhere_else(swept, tmp_path):
    document = tmp_path / "README.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(swept[1], document)
    assert document.read_text() == f"before\n{BEGIN}\n{results_table(swept[1])}\n{END}\nafter\n"
    bare = tmp_path / "bare.md"
    bare.write_text("nothing here")
    with pytest.raises(InputError, match="lacks the lines"):
        write_table(swept[1], bare)


def test_a_table_of_sets_that_cannot_be_judged_leaves_their_win_rates_out(swept, tmp_path):
    lines = swept[1].read_text().splitlines()
    bare = tmp_path / "bare.csv"
    rows = [line.rpartition(",")[0].replace("tone", "mine.jsonl") + "," for line in lines[1:]]
    bare.write_text("\n".join([lines[0], *rows]) + "\n")
    table = results_table(bare)
    assert "`mine.jsonl`" in table and " ± " in table


def test_a_divergent_race_of_a_sweep_is_named(tiny):
    config = RaceConfig(
        data="tone", seed=3, model=str(tiny), steps=9, batch_size=2, eval_pairs=2, learning_rate=1e6
    )
    with pytest.raises(InputError, match="tone.*seed 3.*lower the learning rate"):
        run_race(config)


def test_a_file_that_is_no_sweeps_is_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_results(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a sweep's results"):
        read_results(other)


def test_the_readmes_table_is_what_the_committed_results_say():
    table = results_table(ROOT / "data" / "results" / "shifts.csv")
    assert f"{BEGIN}\n{table}\n{END}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_committed_results_are_of_every_set_with_five_seeds_and_the_control():
    rows = read_results(ROOT / "data" / "results" / "shifts.csv")
    assert len(rows) == len({(r["data"], r["seed"], r["method"]) for r in rows}) == 6 * 5 * 3
