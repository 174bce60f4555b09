"""Sweeps: resumed without running anything twice, and tables that say what is in the file."""

import math
from dataclasses import replace

import pytest

from adadpo_mini import InputError, RaceConfig
from adadpo_mini.experiments import (
    ABLATIONS,
    BETAS,
    DATA,
    LEARNING_RATES,
    METHODS,
    SEEDS,
    SIZE,
    ablations,
    grid,
    run_paper,
    sets,
)
from adadpo_mini.results import COLUMNS, Estimate, closing_rows, read_measurements
from adadpo_mini.sweep import PlannedRace, run_race, sweep
from adadpo_mini.tables import sets_table, write_between
from adadpo_mini.toyworld import data_dir

pytest.importorskip("statsmodels")
ROOT = data_dir().parent


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(planned races, file) of a sweep of two tiny races."""
    out = tmp_path_factory.mktemp("sweep") / "results.csv"
    tiny = {"steps": 2, "batch_size": 2, "eval_pairs": 2, "measure_every": 0}
    planned = [PlannedRace("sets", RaceConfig(data="tone", seed=seed, **tiny)) for seed in (0, 1)]
    assert list(sweep(planned, out, processes=1)) == [0, 1, 2]
    return planned, out


def test_a_sweep_writes_the_measured_steps_of_each_race_and_method(swept):
    rows = read_measurements(swept[1])
    assert sorted((r["data"], r["seed"], r["method"], r["step"]) for r in rows) == [
        ("tone", seed, method, step)
        for seed in (0, 1)
        for method in ("adadpo", "dpo")
        for step in (0, 2)
    ]
    for row in rows:
        assert math.isfinite(row["shift_chosen"])
        judged = [row[name] for name in ("kl", "win_rate", "lc_win_rate", "length")]
        assert all((value is not None) == (row["step"] == 2) for value in judged)


def test_the_rows_of_a_race_are_what_the_race_says(swept):
    from adadpo_mini import race

    config = swept[0][1].config
    settings = {name: getattr(config, name) for name in ("steps", "batch_size", "eval_pairs")}
    alone = race("tone", seed=1, measure_every=0, **settings)
    for row in closing_rows(read_measurements(swept[1]), "sets"):
        if row["seed"] == 1:
            result = alone.summary["methods"][row["method"]]
            assert row["shift_chosen"] == pytest.approx(result["delta_chosen"], abs=2e-6)
            assert row["margin"] == pytest.approx(result["margin"], abs=2e-6)
            assert row["win_rate"] == result["win_rate"]


def test_a_sweep_that_is_done_runs_nothing(swept):
    before = swept[1].read_bytes()
    assert list(sweep(*swept, processes=1)) == [2]
    assert swept[1].read_bytes() == before


@pytest.mark.parametrize("torn", ["", "sets,tone,dpo,1,2"])
def test_a_sweep_goes_on_where_it_was_killed_with_the_same_numbers(swept, tmp_path, torn):
    planned, whole = swept
    lines = whole.read_text().splitlines(keepends=True)
    part = tmp_path / "part.csv"
    part.write_text("".join(lines[:5]) + torn)  # the header, the first race, and a bit of a line
    assert list(sweep(planned, part, processes=1)) == [1, 2]
    assert sorted(part.read_text().splitlines()) == sorted(whole.read_text().splitlines())


def test_other_settings_are_other_races(swept, tmp_path):
    planned, whole = swept
    part = tmp_path / "part.csv"
    part.write_bytes(whole.read_bytes())
    other = PlannedRace("sets", replace(planned[0].config, beta=0.2))
    assert list(sweep([*planned, other], part, processes=1)) == [2, 3]
    with pytest.raises(InputError, match="differ in settings"):
        sets_table(part)


def test_a_divergent_race_of_a_sweep_is_named(tiny):
    config = RaceConfig(
        data="tone", seed=3, model=str(tiny), steps=9, batch_size=2, eval_pairs=2,
        learning_rate=1e6, measure_every=0,
    )  # fmt: skip
    with pytest.raises(InputError, match="tone.*seed 3.*lower the learning rate"):
        run_race(PlannedRace("sets", config))


def test_the_estimate_is_students_t():
    # t(0.975, 3) = 3.182446; the values' standard deviation is sqrt(5/3).
    estimate = Estimate.of([1.0, 2.0, 3.0, 4.0])
    assert estimate.mean == 2.5
    assert estimate.half_width == pytest.approx(3.182446 * math.sqrt(5 / 3) / 2)
    assert Estimate(-1.26, 0.5, 3).text() == "−1.3 ± 0.5"
    assert math.isnan(Estimate.of([1.0]).half_width)


def test_a_text_goes_between_its_markers_and_nowhere_else(tmp_path):
    document = tmp_path / "README.md"
    document.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\n<!-- b:begin -->\n")
    write_between(document, "a", "new")
    expected = "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\n<!-- b:begin -->\n"
    assert document.read_text() == expected
    with pytest.raises(InputError, match="lacks the lines <!-- c:begin -->"):
        write_between(document, "c", "new")


def test_a_file_that_is_no_sweeps_is_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_measurements(tmp_path / "none.csv")
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a sweep's results"):
        read_measurements(other)
    other.write_text(",".join(COLUMNS) + "\n" + "sets,tone,dpo,x\n")
    with pytest.raises(InputError, match=r"other\.csv, line 2: seed must be a number, not 'x'"):
        read_measurements(other)


def test_the_plan_is_the_papers_grid_with_its_controls():
    planned = grid()
    assert len(planned) == len(LEARNING_RATES) * len(BETAS) * len(DATA) * SEEDS == 16 * 3 * 5
    assert len({key for race in planned for key in set(race.keys())}) == len(planned) * len(METHODS)
    assert {"dpo", "adadpo", "adadpo_policy", "fixed_ratio"} == set(METHODS)
    assert len(sets()) % SEEDS == 0


def test_the_ablations_run_at_the_grids_best_setting_and_on_seeds_of_their_own():
    planned = [race for race in grid() if race.config.data == "tone"]
    best = (LEARNING_RATES[0], BETAS[3])
    rows = [
        {
            "experiment": "grid", "data": race.config.data, "method": "adadpo", "step": SIZE.steps,
            "steps": SIZE.steps, "learning_rate": race.config.learning_rate,
            "beta": race.config.beta, "seed": race.config.seed,
            "lc_win_rate": float((race.config.learning_rate, race.config.beta) == best),
        }
        for race in grid()
    ]  # fmt: skip
    varied = ablations(rows)
    assert len(varied) == ABLATIONS * SEEDS * len(DATA)
    default = (RaceConfig.learning_rate, RaceConfig.beta)
    for race in varied:
        setting = default if race.experiment == "ceiling_at_defaults" else best
        assert (race.config.learning_rate, race.config.beta) == setting
    assert not {race.config.seed for race in planned} & {race.config.seed for race in varied}


def test_the_quick_plan_runs_from_the_grid_to_the_report(tmp_path, monkeypatch):
    from adadpo_mini import experiments

    small = replace(SIZE, steps=1, batch_size=2, eval_pairs=2)
    monkeypatch.setattr(experiments, "QUICK", small)
    monkeypatch.setattr(experiments, "CEILINGS", (2.0, 5.0))
    out = tmp_path / "quick.csv"
    progress = list(run_paper(out, quick=True, processes=1))
    assert progress[0][0] == 0
    rows = read_measurements(out)
    names = ("ceiling", "ceiling_at_defaults", "form", "k", "floor")
    assert {row["experiment"] for row in rows} == {"grid", *names}
    assert list(run_paper(out, quick=True, processes=1))[-1][0] == progress[-1][0]
    assert len(read_measurements(out)) == len(rows)
