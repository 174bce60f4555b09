"""What is swept: the grid, the ablations, and a small plan from start to end."""

from dataclasses import replace

import pytest

from adadpo_mini import InputError, RaceConfig
from adadpo_mini.paper.experiments import PAPER, QUICK, SEEDS, ablations, grid, run_paper, sets
from adadpo_mini.paper.results import read_measurements
from adadpo_mini.toyworld.sets import SETS


def test_the_grid_has_the_papers_sixteen_settings_three_sets_and_five_seeds():
    planned = grid()
    settings = {(race.config.learning_rate, race.config.beta) for race in planned}
    assert len(settings) == 16 and len(planned) == PAPER.grid_races == 16 * 3 * 5
    assert len({key for race in planned for key in race.keys()}) == len(planned) * 4  # noqa: SIM118
    methods = {race.config.methods for race in planned}
    assert methods == {("dpo", "adadpo", "adadpo_policy", "fixed_ratio")}


def test_the_quick_plan_is_a_small_part_of_the_same_kind():
    planned = grid(QUICK)
    assert len(planned) == QUICK.grid_races == 8
    assert {race.config.data for race in planned} == {"tone"}
    assert {race.config.steps for race in planned} == {20}


def test_the_table_of_sets_has_every_set_and_seed_once_with_its_control():
    planned = sets(seeds=2)
    assert {(race.config.data, race.config.seed) for race in planned} == {
        (name, seed) for name in SETS for seed in (0, 1)
    }
    assert len(planned) == 2 * len(SETS)
    assert {race.config.methods for race in planned} == {("dpo", "adadpo", "fixed_ratio")}


def grid_results(best):
    """Closing rows of AdaDPO's grid, with LC win rate 1 at its best setting and 0 elsewhere."""
    for race in grid():
        config = race.config
        setting = (config.learning_rate, config.beta)
        yield {
            "experiment": "grid", "data": config.data, "method": "adadpo", "step": config.steps,
            "steps": config.steps, "learning_rate": setting[0], "beta": setting[1],
            "seed": config.seed, "lc_win_rate": float(setting == best),
        }  # fmt: skip


def test_the_ablations_run_at_the_grids_best_setting_and_on_new_seeds():
    best, default = (5e-5, 1.0), (RaceConfig.learning_rate, RaceConfig.beta)
    varied = ablations(list(grid_results(best)))
    assert len(varied) == PAPER.ablation_races == (2 * 6 + 1 + 2 + 2) * 5 * 3
    for race in varied:
        setting = default if race.experiment == "ceiling_at_defaults" else best
        assert (race.config.learning_rate, race.config.beta) == setting
    assert {race.config.seed for race in varied} == {SEEDS + seed for seed in range(5)}
    assert not {race.config.seed for race in grid()} & {race.config.seed for race in varied}


def test_an_ablation_changes_one_knob_and_leaves_the_others_at_their_defaults():
    varied = [race for race in ablations(list(grid_results((1e-4, 0.1)))) if race.config.seed == 5]
    changed = {}
    for race in varied:
        if race.config.data == "tone":
            knobs = {name: getattr(race.config, name) for name in ("ceiling", "k", "floor")}
            default = {name: getattr(RaceConfig, name) for name in knobs}
            difference = {n: v for n, v in knobs.items() if v != default[n]}
            changed.setdefault(race.experiment, []).append(difference or race.config.methods)
    other_ceilings = [{"ceiling": c} for c in (2.5, 3.0, 5.0, 10.0)]
    ceilings = [{"ceiling": 1.5}, ("adadpo",), *other_ceilings]
    assert changed == {
        "ceiling": ceilings,
        "ceiling_at_defaults": ceilings,
        "form": [("adadpo_policy", "adadpo_raw")],
        "k": [{"k": 0.5}, {"k": 2.0}],
        "floor": [{"floor": 0.5}, {"floor": 1.0}],
    }


def test_without_a_best_setting_there_is_nothing_to_vary():
    without_tone = [row for row in grid_results((1e-4, 0.1)) if row["data"] != "tone"]
    with pytest.raises(InputError, match="no LC win rate of adadpo on tone"):
        ablations(without_tone)


def test_a_plan_runs_from_the_grid_to_its_ablations_and_only_once(tmp_path):
    size = replace(PAPER.size, steps=1, batch_size=2, eval_pairs=2)
    plan = replace(
        QUICK, size=size, seeds=1, learning_rates=(1e-4,), ceilings=(2.0,), ks=(0.5,), floors=(1.0,)
    )
    out = tmp_path / "small.csv"
    progress = list(run_paper(out, plan, processes=2))
    in_all = plan.grid_races + plan.ablation_races
    assert [done for done, _ in progress] == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert {total for _, total in progress} == {in_all} == {7}
    rows = read_measurements(out)
    names = ("ceiling", "ceiling_at_defaults", "form", "k", "floor")
    assert {row["experiment"] for row in rows} == {"grid", *names}
    assert list(run_paper(out, plan, processes=1)) == [(2, 7), (7, 7)]
    assert read_measurements(out) == rows
