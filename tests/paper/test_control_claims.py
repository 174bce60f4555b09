"""AdaDPO against its controls: each with the right rival, of the same place and seed."""

from statistics import fmean

import pytest
from scipy import stats

from adadpo_mini.paper.claims import POLICY, RATIO
from adadpo_mini.paper.control_claims import CONTROLS, FAIR, HARD, control_settings
from adadpo_mini.paper.verdict import FAILS, HOLDS, NO_DIFFERENCE, NOT_RUN, UNDECIDED
from tests.paper.made_up import (
    BEST,
    BETTER,
    CONTROL_SEEDS,
    SETS,
    changed,
    closing,
    made_up_results,
)  # fmt: skip
from tests.paper.made_up import (
    HARD as HARD_SETTING,
)

(
    DPO, RPO, NORM, CONSTANT, BATCH, TWO, BEST_STEP, SCALED,
) = range(8)  # fmt: skip
RIVALS = {  # claim → (rival's experiment, method) in each space, with an effect of its own
    DPO: [("controls", "dpo", 0.0), ("controls", "dpo", 0.0)],
    RPO: [("controls", "rpo", 0.02), ("controls", "rpo", 0.02)],
    NORM: [
        ("controls", "dpo_matched_norm", 0.04), ("controls_policy", "dpo_matched_norm", 0.06),
    ],
    CONSTANT: [("matched", "fixed_ratio", 0.08), ("matched_policy", "fixed_ratio", 0.10)],
    BATCH: [("controls", "adadpo_batch", 0.12), ("controls_policy", "adadpo_batch", 0.14)],
    TWO: [("controls", "fixed_ratio", 0.16), ("controls", "fixed_ratio", 0.16)],
}  # fmt: skip
SPACES = {RATIO: 0, POLICY: 1}
OWN = {RATIO: 0.20, POLICY: 0.22}
SCALED_EFFECT = {RATIO: 0.05, POLICY: 0.25}


@pytest.fixture(scope="module")
def distinct():
    """Results in which every method of every experiment has another effect."""
    effects = {
        (experiment, method): effect
        for rivals in RIVALS.values()
        for experiment, method, effect in rivals
    }
    effects |= {("controls", method): effect for method, effect in OWN.items()}
    effects |= {("scaled", RATIO): 0.05, ("scaled_policy", POLICY): 0.25}
    return made_up_results(effects, noise_level=0.005)


def verdict(rows, number, measure="T 0.7", where=FAIR, method=RATIO, data="tone"):
    return CONTROLS[where][number].verdicts(rows, data, method)[measure]


@pytest.mark.parametrize("method", SPACES)
@pytest.mark.parametrize("where", CONTROLS)
@pytest.mark.parametrize("number", RIVALS)
def test_each_claim_has_the_rival_of_its_space(number, where, method, distinct):
    *_, rival = RIVALS[number][SPACES[method]]
    truth = OWN[method] - rival
    for measure, part in (("T 0.7", 1), ("T 1", 0.5)):
        found = verdict(distinct, number, measure, where, method)
        assert found.effect == pytest.approx(part * truth, abs=0.01)
        assert found.verdict == HOLDS and found.seeds == len(CONTROL_SEEDS)


@pytest.mark.parametrize("method", SPACES)
@pytest.mark.parametrize("where", CONTROLS)
def test_the_scaled_adadpo_is_compared_with_the_constant_two(where, method, distinct):
    found = verdict(distinct, SCALED, where=where, method=method)
    assert found.effect == pytest.approx(SCALED_EFFECT[method] - 0.16, abs=0.01)
    assert found.verdict == {RATIO: FAILS, POLICY: HOLDS}[method]


def test_the_scaled_adadpo_says_the_mean_weight_that_it_came_to(distinct):
    """Where its ceiling of 2 held ρ down, the scaled one is a larger dose than 2."""
    rows = changed(distinct, lambda row: {"mean_rho": 5.5}, experiment="scaled")
    assert verdict(rows, SCALED).note == "its mean ρ 5.50"
    assert verdict(rows, SCALED, method=POLICY).note != "its mean ρ 5.50"
    assert verdict(rows, CONSTANT).note == ""


def test_the_titles_name_the_rivals_in_this_order():
    for claims in CONTROLS.values():
        words = ("DPO", "RPO", "gradient norm", "own mean ρ", "per batch", "constant 2",
                 "best step", "Scaled")  # fmt: skip
        assert len(claims) == len(words)
        assert all(word in claim.title for word, claim in zip(words, claims, strict=True))


def test_the_interval_is_students_over_the_seeds(distinct):
    runs = {
        method: {
            row["seed"]: row["lc_win_rate"]
            for row in closing(distinct, experiment="controls", method=method, data="swap",
                               learning_rate=HARD_SETTING[0])
        }
        for method in ("adadpo", "dpo")
    }  # fmt: skip
    values = [runs["adadpo"][seed] - runs["dpo"][seed] for seed in CONTROL_SEEDS]
    expected = stats.t.interval(0.95, 4, fmean(values), stats.sem(values))
    found = verdict(distinct, DPO, where=HARD, data="swap")
    assert found.interval == pytest.approx(expected, rel=1e-6)


def test_a_run_is_compared_with_the_rivals_run_of_its_own_seed(distinct):
    """The luck of a seed is the same for both, so it cancels."""
    luck = dict(zip(CONTROL_SEEDS, (0.1, -0.1, 0.0, 0.05, -0.05), strict=True))
    rows = [
        {**row, "lc_win_rate": row["lc_win_rate"] and row["lc_win_rate"] + luck.get(row["seed"], 0)}
        for row in distinct
    ]
    for number in (*RIVALS, SCALED):
        before, after = (verdict(results, number).interval for results in (distinct, rows))
        assert after == pytest.approx(before, abs=1e-9)


def test_the_fair_setting_is_dpos_best_of_the_grid_and_the_hard_one_is_common_to_all(better):
    for name in SETS:
        assert control_settings(better, name) == {FAIR: BEST, HARD: HARD_SETTING}
    assert control_settings(better, "refusal") == {}
    grid_only = [row for row in better if row["experiment"] == "grid"]
    assert control_settings(grid_only, "tone") == {}
    assert verdict(grid_only, DPO).verdict == NOT_RUN


def test_a_best_setting_with_a_higher_learning_rate_or_beta_is_not_taken_for_the_hard_one():
    """With one data set, nothing but the grid tells the two apart."""
    rows = made_up_results({}, sets=("tone",))
    best = (3e-4, 1.0)  # above the hard one
    moved = [
        {**row, "learning_rate": best[0], "beta": best[1]}
        if row["experiment"] != "grid" and (row["learning_rate"], row["beta"]) == BEST
        else row
        for row in rows
    ]
    moved = changed(
        moved,
        lambda row: {"lc_win_rate": row["lc_win_rate"] and 0.95},
        experiment="grid", method="dpo", learning_rate=best[0], beta=best[1],
    )  # fmt: skip
    assert control_settings(moved, "tone") == {FAIR: best, HARD: HARD_SETTING}


def test_where_dpo_is_best_at_the_hard_setting_both_kinds_are_the_same(better):
    top = {"experiment": "grid", "method": "dpo", "data": "swap"}
    rows = changed(better, lambda row: {"lc_win_rate": row["lc_win_rate"] and 0.9}, **top,
                   learning_rate=HARD_SETTING[0], beta=HARD_SETTING[1])  # fmt: skip
    rows = [
        row
        for row in rows
        if row["data"] != "swap" or row["experiment"] == "grid" or row["beta"] == HARD_SETTING[1]
    ]
    assert control_settings(rows, "swap") == {FAIR: HARD_SETTING, HARD: HARD_SETTING}
    assert control_settings(rows, "tone") == {FAIR: BEST, HARD: HARD_SETTING}
    assert verdict(rows, DPO, where=FAIR, data="swap").seeds == len(CONTROL_SEEDS)


def with_steps(rows, by_step):
    """The rows, with DPO's LC win rate at these steps as `by_step(seed)` says."""
    return [
        {**row, "lc_win_rate": by_step(row["seed"])[row["step"]]}
        if (row["experiment"], row["method"]) == ("controls", "dpo")
        and row["step"] in by_step(row["seed"])
        else row
        for row in rows
    ]


def test_dpos_best_step_is_what_adadpo_must_beat():
    rows = made_up_results(BETTER)  # AdaDPO ends at about 0.87 at the fair setting
    early = with_steps(rows, lambda seed: {10: 0.6, 20: 0.97, 30: 0.8, 40: 0.75})
    found = verdict(early, BEST_STEP)
    assert found.effect == pytest.approx(0.87 - 0.97, abs=0.01) and found.verdict == FAILS
    late = with_steps(rows, lambda seed: {10: 0.6, 20: 0.61, 30: 0.62, 40: 0.77})
    assert verdict(late, BEST_STEP).verdict == HOLDS
    assert verdict(late, BEST_STEP).effect == pytest.approx(verdict(late, DPO).effect, abs=0.01)


def test_the_best_step_is_chosen_on_the_other_seeds():
    """Each seed is lucky at another step: on its own it would choose that, and reach 0.9."""
    lucky = dict(zip(CONTROL_SEEDS, (10, 20, 30, 10, 20), strict=True))
    rows = with_steps(
        made_up_results(BETTER),
        lambda seed: {step: 0.9 if step == lucky[seed] else 0.5 for step in (10, 20, 30, 40)},
    )
    found = verdict(rows, BEST_STEP)
    assert found.effect > 0.87 - 0.9 + 0.15 and found.seeds == 5


def test_the_interval_about_the_best_step_is_widened_for_the_choice():
    rows = with_steps(made_up_results(BETTER), lambda seed: {10: 0.1, 20: 0.1, 30: 0.1})
    widths = [high - low for low, high in (verdict(rows, n).interval for n in (DPO, BEST_STEP))]
    assert widths[1] == pytest.approx(widths[0] * (1 + 5 / 4) ** 0.5)


def test_step_zero_is_not_a_step_of_training():
    rows = made_up_results(BETTER)
    rows = with_steps(rows, lambda seed: {0: 1.0, 10: 0.6, 20: 0.6, 30: 0.6})
    assert verdict(rows, BEST_STEP).effect == pytest.approx(0.1, abs=0.02)


def test_equal_answers_are_no_difference_and_missing_rivals_are_not_run():
    rows = changed(made_up_results({}), lambda row: {"lc_win_rate": 0.6}, experiment="controls")
    assert verdict(rows, DPO).verdict == NO_DIFFERENCE
    assert verdict(rows, DPO, "T 1").verdict in (UNDECIDED, HOLDS, FAILS)
    without = [row for row in rows if row["experiment"] != "matched_policy"]
    assert verdict(without, CONSTANT, method=POLICY).verdict == NOT_RUN
    assert verdict(without, CONSTANT).verdict != NOT_RUN
