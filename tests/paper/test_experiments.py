"""What is swept: the grid, the controls, what follows from them, the ablations."""

from dataclasses import replace
from itertools import product

import pytest

from adadpo_mini import InputError, RaceConfig
from adadpo_mini.paper.experiments import (
    PAPER,
    QUICK,
    SEEDS,
    ablations,
    arcs,
    betas,
    controls,
    grid,
    matched,
    matched_sets,
    sets,
)
from adadpo_mini.paper.plans import PLANS, paper_stages, run_plan
from adadpo_mini.paper.results import closing_rows, read_measurements
from adadpo_mini.toyworld.sets import SETS

BEST = {"tone": (1e-4, 1.0), "near_duplicate": (3e-4, 0.1), "swap": (1e-5, 0.3)}
OTHER = (3e-5, 0.03)
KEYS = ("data", "learning_rate", "beta", "seed")


def place(config):
    return tuple(getattr(config, name) for name in KEYS)


def row_of(race, method, **measured):
    config = race.config
    row = {"experiment": race.experiment, "method": method, "step": config.steps}
    row |= {name: getattr(config, name) for name in ("steps", *KEYS)}
    return {**row, "lc_win_rate": 0.5, "mean_rho": None, **measured}


def grid_results(dpo=BEST, adadpo=BEST, plan=PAPER):
    """Closing rows of the grid, with LC win rate 1 at the best settings and 0 elsewhere."""
    return [
        row_of(race, method, lc_win_rate=float(best[race.config.data] == place(race.config)[1:3]))
        for race in grid(plan)
        for method, best in (("dpo", dpo), ("adadpo", adadpo))
    ]


def control_results(**best):
    """The grid's and the controls' rows; each run has a mean ρ of its own."""
    rows = grid_results(**best)
    races = [race for race in controls(rows) if race.experiment == "controls"]
    return rows + [
        row_of(race, method, mean_rho=1 + i / 100 + (method == "adadpo_policy") / 2)
        for i, race in enumerate(races)
        for method in race.config.methods
    ]


def test_the_grid_has_all_settings_on_three_sets_with_three_methods():
    planned = grid()
    settings = {(race.config.learning_rate, race.config.beta) for race in planned}
    assert settings == set(product(PAPER.learning_rates, PAPER.betas)) and len(settings) >= 16
    assert len(planned) == len(settings) * 3 * PAPER.seeds
    assert len({key for race in planned for key in race.keys()}) == len(planned) * 3  # noqa: SIM118
    assert {race.config.methods for race in planned} == {("dpo", "adadpo", "adadpo_policy")}
    assert all(race.config.eval_pairs >= 100 for race in planned), "prompts to judge answers to"
    assert not {race.config.seed for race in planned} & {SEEDS + seed for seed in range(9)}


def test_the_quick_plan_is_a_small_part_of_the_same_kind():
    planned = grid(QUICK)
    assert len(planned) == 8 and {race.config.data for race in planned} == {"tone"}
    assert {race.config.steps for race in planned} == {20}
    assert {(race.config.learning_rate, race.config.beta) for race in planned} <= {
        (race.config.learning_rate, race.config.beta) for race in grid()
    }


def test_the_controls_are_at_dpos_best_setting_and_at_the_hard_one_on_new_seeds():
    planned = controls(grid_results(adadpo=dict.fromkeys(BEST, OTHER)))
    found = {race.config.data: set() for race in planned}
    for race in planned:
        found[race.config.data].add((race.config.learning_rate, race.config.beta))
    assert found == {name: {best, PAPER.too_hard} for name, best in BEST.items()}
    seeds = {race.config.seed for race in planned}
    assert seeds == {SEEDS + seed for seed in range(PAPER.control_seeds)}


def test_each_place_has_every_control_once_in_the_space_that_its_experiment_names():
    planned = controls(grid_results())
    runs = [
        (race.experiment, method, race.config.space)
        for race in planned
        for method in race.config.methods
        if place(race.config) == ("tone", 1e-4, 1.0, 5)
    ]
    expected = [("controls", method, "ratio") for method in (
        "dpo", "adadpo", "adadpo_policy", "adadpo_batch", "rpo", "dpo_matched_norm", "fixed_ratio",
    )]  # fmt: skip
    policy = [("controls_policy", method, "policy") for method in
              ("adadpo_batch", "dpo_matched_norm")]  # fmt: skip
    assert sorted(runs) == sorted(expected + policy)
    for race in planned:
        quarter = race.config.steps // 4
        every = quarter if race.config.methods == ("dpo",) else race.config.steps
        assert race.config.measure_every == every
        if "fixed_ratio" in race.config.methods:
            assert race.config.ratio == 2.0


def test_the_matched_constant_is_the_mean_of_the_same_place_seed_and_space():
    rows = control_results()
    planned = [race for race in matched(rows) if race.experiment.startswith("matched")]
    assert len(planned) == 2 * PAPER.control_seeds * (
        2 + 1 + 2
    )  # near_duplicate's best setting is the hard one
    for race in planned:
        assert race.config.methods == ("fixed_ratio",)
        method = {"matched": "adadpo", "matched_policy": "adadpo_policy"}[race.experiment]
        [run] = [
            row
            for row in closing_rows(rows, "controls", method)
            if tuple(row[name] for name in KEYS) == place(race.config)
        ]
        assert race.config.ratio == round(run["mean_rho"], 4)
    assert len({race.config.ratio for race in planned}) == len(planned), "all are different"


def test_adadpo_is_scaled_to_a_mean_of_two_under_a_high_ceiling():
    rows = control_results()
    planned = [race for race in matched(rows) if race.experiment.startswith("scaled")]
    for race in planned:
        method = {"scaled": "adadpo", "scaled_policy": "adadpo_policy"}[race.experiment]
        assert race.config.methods == (method,) and race.config.ceiling == 10
        [mean] = [
            row["mean_rho"]
            for row in closing_rows(rows, "controls", method)
            if tuple(row[name] for name in KEYS) == place(race.config)
        ]
        assert race.config.k * mean == pytest.approx(2, abs=1e-3)


def test_what_the_results_lack_is_named():
    without_tone = [row for row in grid_results() if row["data"] != "tone"]
    with pytest.raises(InputError, match="no LC win rate of dpo on tone"):
        controls(without_tone)
    without = [row for row in grid_results() if (row["data"], row["method"]) != ("tone", "adadpo")]
    with pytest.raises(InputError, match="no LC win rate of adadpo on tone"):
        ablations(without)
    with pytest.raises(InputError, match="no mean_rho of adadpo on .'tone', 0.0001, 1.0, 5."):
        matched(grid_results())
    with pytest.raises(InputError, match="no mean_rho of adadpo on .'tone'"):
        matched_sets([], seeds=1)


def test_the_ablations_run_at_adadpos_best_setting_and_the_ceiling_at_the_hard_one_too():
    varied = ablations(grid_results(dpo=dict.fromkeys(BEST, OTHER)))
    for race in varied:
        hard = race.experiment == "ceiling_too_hard"
        setting = PAPER.too_hard if hard else BEST[race.config.data]
        assert (race.config.learning_rate, race.config.beta) == setting
    seeds = {SEEDS + seed for seed in range(PAPER.control_seeds)}
    assert {race.config.seed for race in varied} == seeds


def test_an_ablation_changes_one_knob_and_leaves_the_others_at_their_defaults():
    varied = ablations(grid_results(dpo=dict.fromkeys(BEST, OTHER)))
    changed = {}
    for race in varied:
        if (race.config.data, race.config.seed) == ("tone", 5):
            knobs = {name: getattr(race.config, name) for name in ("ceiling", "k", "floor")}
            difference = {n: v for n, v in knobs.items() if v != getattr(RaceConfig, n)}
            changed.setdefault(race.experiment, []).append(difference or race.config.methods)
    ceilings = [{"ceiling": c} for c in (1.5, 3.0, 5.0, 10.0)]
    assert changed == {
        "default": [("adadpo",)],
        "ceiling": ceilings,
        "ceiling_too_hard": ceilings,
        "form": [("adadpo_raw",)],
        "k": [{"k": 0.5}, {"k": 2.0}],
    }


def test_the_default_runs_only_where_the_controls_lack_it():
    varied = ablations(grid_results())  # AdaDPO's best settings are DPO's
    assert "default" not in {race.experiment for race in varied}
    at_hard = ablations(grid_results(adadpo=dict.fromkeys(BEST, PAPER.too_hard)))
    assert "default" not in {race.experiment for race in at_hard}


def test_the_table_of_sets_has_every_set_and_seed_once_with_its_controls():
    planned = sets(seeds=2)
    places = [(race.config.data, race.config.seed) for race in planned]
    assert sorted(places) == sorted((name, seed) for name in SETS for seed in (0, 1))
    assert {race.config.methods for race in planned} == {("dpo", "adadpo", "rpo")}
    rows = [row_of(r, "adadpo", mean_rho=1 + i / 100) for i, r in enumerate(planned)]
    constants = matched_sets(rows, seeds=2)
    assert [place(race.config) for race in constants] == [place(race.config) for race in planned]
    assert [race.config.ratio for race in constants] == [row["mean_rho"] for row in rows]
    assert {(r.experiment, r.config.methods) for r in constants} == {("matched", ("fixed_ratio",))}
    default = RaceConfig()
    for race in [*planned, *constants]:
        for name in ("steps", "batch_size", "beta", "learning_rate"):
            assert getattr(race.config, name) == getattr(default, name)


def test_the_sweep_of_beta_changes_beta_alone():
    planned = betas(seeds=1)
    alike = {replace(race.config, beta=RaceConfig.beta) for race in planned}
    assert len(alike) == 1 and {race.experiment for race in planned} == {"beta"}
    found = [race.config.beta for race in planned]
    assert found == sorted(found) and RaceConfig.beta in found[1:-1]


def test_the_arcs_are_judged_on_the_way():
    planned = arcs(seeds=1)
    assert [race.experiment for race in planned] == ["default", "arc", "too_hard"]
    for race in planned:
        assert race.config.steps // race.config.measure_every >= 3
    assert planned[0].config.learning_rate == RaceConfig.learning_rate


def test_a_plan_runs_stage_after_stage_and_only_once(tmp_path):
    size = replace(PAPER.size, steps=2, batch_size=2, eval_pairs=2, measure_every=2)
    plan = replace(
        QUICK, size=size, seeds=1, control_seeds=1, learning_rates=(1e-4,), betas=(0.1,),
        ceilings=(10.0,), ks=(2.0,),
    )  # fmt: skip
    stages = paper_stages(plan)
    out = tmp_path / "small.csv"
    progress = list(run_plan(stages, out, processes=2))
    rows = read_measurements(out)
    kinds = ["grid", "controls", "controls_policy"]
    kinds += [f"{kind}{end}" for kind in ("matched", "scaled") for end in ("", "_policy")]
    kinds += ["ceiling", "ceiling_too_hard", "form", "k"]
    assert {row["experiment"] for row in rows} - {"default"} == set(kinds)
    totals = list(dict.fromkeys(total for _, total in progress))
    assert len(totals) == 4 and totals == sorted(totals), "four stages, each with more races"
    assert progress[0] == (0, 1) and progress[-1] == (totals[-1], totals[-1])
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    matched_run = closing_rows(rows, "matched")[0]
    [own] = [
        row["mean_rho"]
        for row in closing_rows(rows, "controls", "adadpo")
        if row["learning_rate"] == matched_run["learning_rate"]
    ]
    assert matched_run["ratio"] == round(own, 4) and matched_run["mean_rho"] == pytest.approx(
        matched_run["ratio"], abs=1e-5
    )
    assert list(run_plan(stages, out, processes=1))[-1] == (totals[-1], totals[-1])
    assert read_measurements(out) == rows, "nothing ran twice"

    lines = out.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.csv"
    cut.write_text("".join(lines[: len(lines) * 2 // 3]) + lines[-1][:20])
    assert list(run_plan(stages, cut, processes=2))[-1] == (totals[-1], totals[-1])
    assert sorted(cut.read_text().splitlines()) == sorted(out.read_text().splitlines())


def test_every_plan_of_the_command_can_begin():
    for name, stages in PLANS.items():
        planned = stages.first()
        assert planned and stages.about, name
        assert len({key for race in planned for key in race.keys()}) == sum(  # noqa: SIM118
            len(race.config.methods) for race in planned
        )
