"""The verdicts on claims about the grid, on made-up results whose truth is known."""

import math
import random
from itertools import product
from statistics import fmean

import pytest
from scipy import stats

from adadpo_mini.paper.claims import CLAIMS, LC, POLICY, RATIO, data_sets
from adadpo_mini.paper.comparisons import best_setting, lc_of, paired_differences
from adadpo_mini.paper.results import closing_rows
from adadpo_mini.paper.verdict import FAILS, HOLDS, NO_DIFFERENCE, NOT_RUN, UNDECIDED
from tests.paper.made_up import (
    BEST,
    BETAS,
    BETTER,
    LEARNING_RATES,
    SEEDS,
    SETS,
    WORSE,
    changed,
    closing,
    helps,
    made_up_results,
)

(
    EQUAL, WHERE_IT_HELPS, WHERE_IT_BREAKS, AT_ITS_BEST, MOST_SETTINGS,
    GAP, ACCURACY, RANKING, MARGIN, KL, ALIKE,
) = range(len(CLAIMS))  # fmt: skip
LC_CLAIMS = (EQUAL, WHERE_IT_HELPS, WHERE_IT_BREAKS, AT_ITS_BEST)
EFFECTS = {  # what an LC difference of 0.1 is in each claim's unit, see `judgement` and `run`
    **{(number, "T 0.7"): 0.1 for number in LC_CLAIMS},
    **{(number, "T 1"): 0.05 for number in LC_CLAIMS},
    (GAP, ""): 0.05,
    (ACCURACY, ""): 0.1 / 3,
    (RANKING, ""): 0.1 / 4,
    (MARGIN, ""): 0.2,
    (KL, ""): -2.0,
}


def verdict(rows, number, measure="T 0.7", data="tone", method=RATIO):
    return CLAIMS[number].verdicts(rows, data, method)[measure]


@pytest.mark.parametrize("number", range(ALIKE))
@pytest.mark.parametrize("method", [RATIO, POLICY])
@pytest.mark.parametrize("data", SETS)
def test_what_is_true_holds_and_what_is_false_fails(number, method, data, better, worse):
    for measure in CLAIMS[number].measures:
        where = (number, measure, data, method)
        assert verdict(better, *where).verdict == HOLDS, measure
        assert verdict(worse, *where).verdict == FAILS, measure


def test_where_nothing_differs_hardly_anything_holds_or_fails(same):
    found = [
        verdict(same, number, measure, data, method).verdict
        for number in range(ALIKE)
        for measure in CLAIMS[number].measures
        for data, method in product(SETS, (RATIO, POLICY))
    ]
    assert set(found) <= {HOLDS, FAILS, UNDECIDED}
    # 90 verdicts, but only about 12 independent ones: the measures follow one another.
    assert sum(each != UNDECIDED for each in found) <= 0.15 * len(found)


@pytest.mark.parametrize(("number", "measure"), EFFECTS)
def test_the_effect_is_the_one_put_in_and_lies_in_its_interval(number, measure, better, worse):
    for rows, sign in ((better, 1), (worse, -1)):
        found, truth = verdict(rows, number, measure), sign * EFFECTS[number, measure]
        assert found.effect == pytest.approx(truth, abs=0.12 * abs(truth))
        low, high = found.interval
        assert low < found.effect < high
        assert low - 0.05 * abs(truth) <= truth <= high + 0.05 * abs(truth)
        assert found.seeds == len(SEEDS)


def seed_means(rows, data, columns, keep=lambda setting: True):
    """By seed, AdaDPO minus DPO, the mean over the settings that count; written out."""
    means = []
    for seed in SEEDS:
        by_method = {
            method: {
                (row["learning_rate"], row["beta"]): row[columns]
                for row in closing(rows, experiment="grid", data=data, method=method, seed=seed)
            }
            for method in ("adadpo", "dpo")
        }
        settings = [s for s in product(LEARNING_RATES, BETAS) if keep(s)]
        means.append(fmean(by_method["adadpo"][s] - by_method["dpo"][s] for s in settings))
    return means


@pytest.mark.parametrize(
    ("measure", "column"), [("T 0.7", "lc_win_rate"), ("T 1", "lc_win_rate_at_1")]
)
def test_the_interval_is_students_over_the_seeds_each_a_mean_over_the_settings(
    measure, column, better
):
    luck = dict(zip(SEEDS, (0.1, -0.05, 0.0, 0.02), strict=True))  # of a seed, in all settings
    rows = changed(
        better,
        lambda row: {column: row[column] and row[column] + luck.get(row["seed"], 0)},
        method="adadpo",
    )
    means = seed_means(rows, "swap", column)
    expected = stats.t.interval(0.95, len(SEEDS) - 1, fmean(means), stats.sem(means))
    found = verdict(rows, EQUAL, measure, "swap")
    assert found.interval == pytest.approx(expected, rel=1e-6) and found.seeds == 4
    # Over the 16 settings, the interval would be less than a third as wide.
    assert expected[1] - expected[0] > 0.15
    assert found.note == "16 settings"


def test_each_data_set_has_a_verdict_of_its_own():
    rows = made_up_results(BETTER)
    rows = changed(
        rows,
        lambda row: {"lc_win_rate": row["lc_win_rate"] and row["lc_win_rate"] - 0.2},
        method="adadpo",
        data="swap",
    )
    found = {data: verdict(rows, EQUAL, data=data).verdict for data in SETS}
    assert found == {"near_duplicate": HOLDS, "swap": FAILS, "tone": HOLDS}


def test_the_temperatures_are_judged_apart():
    rows = changed(
        made_up_results(BETTER),
        lambda row: {"lc_win_rate_at_1": row["lc_win_rate"] and 1 - row["lc_win_rate"]},
        experiment="grid",
    )
    assert [verdict(rows, EQUAL, measure).verdict for measure in LC] == [HOLDS, FAILS]


def test_settings_where_dpo_beats_its_reference_are_told_from_those_where_it_does_not():
    rows = made_up_results({}, where_broken=0.2)
    assert verdict(rows, WHERE_IT_HELPS).effect == pytest.approx(0, abs=0.01)
    assert verdict(rows, WHERE_IT_BREAKS).effect == pytest.approx(0.2, abs=0.01)
    assert verdict(rows, EQUAL).effect == pytest.approx(0.2 * 11 / 16, abs=0.01)
    notes = [verdict(rows, number).note for number in (WHERE_IT_HELPS, WHERE_IT_BREAKS)]
    assert notes == ["5 settings", "11 settings"]
    means = seed_means(rows, "tone", "lc_win_rate", helps)
    assert verdict(rows, WHERE_IT_HELPS).effect == pytest.approx(fmean(means))


def test_a_seeds_own_luck_does_not_choose_the_settings_that_count_for_it():
    """DPO is at 0.5 everywhere but for luck, and where it is lucky AdaDPO is the same amount
    behind: chosen by the seed's own result, DPO would seem to be ahead where it helps."""
    effects = []
    for seed in range(30):
        luck = random.Random(seed)
        rows = [
            {**row, "win_rate": 0.5 + lucky, "lc_win_rate": 0.5 + lucky}
            if row["method"] == "dpo"
            else {**row, "lc_win_rate": 0.5}
            for row in closing(made_up_results({}, sets=("tone",), control_seeds=()))
            for lucky in [luck.gauss(0, 0.1)]
        ]
        effects.append(verdict(rows, WHERE_IT_HELPS).effect)
    assert abs(fmean(effects)) < 0.02, "by its own luck it would be about −0.06"


def test_without_a_setting_in_which_dpo_helps_there_is_no_verdict():
    broken = changed(made_up_results(BETTER), lambda row: {"win_rate": 0.4}, method="dpo")
    found = verdict(broken, WHERE_IT_HELPS)
    assert (found.verdict, found.note, found.text) == (
        NOT_RUN, "no such setting", "**not run**, no such setting",
    )  # fmt: skip
    assert verdict(broken, WHERE_IT_BREAKS).note == "16 settings"


def test_a_draw_with_the_reference_is_not_a_win():
    drawn = changed(made_up_results(BETTER), lambda row: {"win_rate": 0.5}, method="dpo")
    assert verdict(drawn, WHERE_IT_HELPS).verdict == NOT_RUN


def test_a_run_is_compared_with_the_run_of_its_own_data_seed_learning_rate_and_beta():
    rows = made_up_results({}, noise_level=0.0)
    for row in rows:  # a difference that any other pairing would blur
        if row["lc_win_rate"] is not None:
            row["lc_win_rate"] += row["seed"] * 0.1 + (row["method"] == "adadpo") * 0.01
    ours, theirs = (closing_rows(rows, "grid", method) for method in ("adadpo", "dpo"))
    theirs.reverse()
    differences = paired_differences(ours, theirs, lc_of)
    assert len(differences) == 48
    for seeds in differences.values():
        assert list(seeds.values()) == pytest.approx([0.01] * len(SEEDS))


def test_runs_without_a_counterpart_or_a_measurement_are_left_out(better):
    rows = [row for row in better if (row["method"], row["seed"]) != ("dpo", 3)]
    assert verdict(rows, EQUAL).seeds == 3
    unknown = changed(better, lambda row: {"kl": None}, seed=0)
    assert verdict(unknown, KL, "").seeds == 3 and verdict(unknown, EQUAL).seeds == 4


def test_dpo_at_its_own_best_setting_can_beat_an_adadpo_that_is_ahead_on_average():
    rows = changed(
        made_up_results({"adadpo": 0.1}),
        lambda row: {"lc_win_rate": row["lc_win_rate"] and row["lc_win_rate"] + 0.2},
        method="dpo", learning_rate=BEST[0], beta=BEST[1],
    )  # fmt: skip
    assert verdict(rows, EQUAL).verdict == HOLDS
    found = verdict(rows, AT_ITS_BEST)
    assert found.verdict == FAILS and found.effect == pytest.approx(-0.1, abs=0.02)
    assert best_setting(rows, "tone", "dpo") == BEST
    assert best_setting(rows, "unheard of", "dpo") is None


def test_each_temperature_chooses_its_own_best_setting():
    at_hot = {"method": "dpo", "learning_rate": 3e-4, "beta": 1.0, "experiment": "grid"}
    rows = changed(made_up_results({}), lambda row: {"lc_win_rate_at_1": 0.95}, **at_hot)
    assert abs(verdict(rows, AT_ITS_BEST).effect) < 0.03
    at_best = verdict(rows, AT_ITS_BEST, "T 1").effect
    assert at_best == pytest.approx(0.3 + 0.77 / 2 - 0.95, abs=0.03)


def lucky_grid(seed):
    """Closing rows of DPO, the same everywhere, and of AdaDPO, the same but for luck."""
    luck = random.Random(seed)
    for run_seed, learning_rate, beta in product(range(5), LEARNING_RATES, BETAS):
        for method, spread in (("dpo", 0.0), ("adadpo", 0.1)):
            yield {
                "experiment": "grid", "method": method, "data": "tone", "seed": run_seed,
                "learning_rate": learning_rate, "beta": beta, "step": 40, "steps": 40,
                "lc_win_rate": 0.5 + luck.gauss(0, spread), "lc_win_rate_at_1": 0.5,
            }  # fmt: skip


def test_choosing_a_setting_by_luck_flatters_nobody():
    found = [verdict(list(lucky_grid(seed)), AT_ITS_BEST) for seed in range(100)]
    # The mean over 5 seeds at the best of 16 settings is 0.08 above the others.
    assert abs(fmean(each.effect for each in found)) < 0.015
    # 5 in 100 may be wrong; a plain t interval would be in about 15.
    assert sum(each.verdict != UNDECIDED for each in found) <= 9


def test_the_share_of_settings_counts_who_is_ahead_and_not_by_how_much():
    rows = made_up_results({"adadpo": 0.1}, noise_level=0.001)
    rows = changed(
        rows,
        lambda row: {"lc_win_rate": row["lc_win_rate"] and row["lc_win_rate"] - 0.9},
        method="adadpo",
        beta=0.3,
    )
    assert verdict(rows, MOST_SETTINGS).effect == pytest.approx(12 / 16 - 4 / 16)
    assert verdict(rows, EQUAL).effect < 0


@pytest.mark.parametrize("tied", [8, 9])
def test_where_most_settings_tie_there_is_no_difference(tied):
    rows = made_up_results({"adadpo": 0.1}, noise_level=0.001)
    settings = list(product(LEARNING_RATES, BETAS))[:tied]
    dpo = {
        (row["data"], row["seed"], row["learning_rate"], row["beta"]): row
        for row in closing(rows, experiment="grid", method="dpo")
    }
    for row in closing(rows, experiment="grid", method="adadpo"):
        if (row["learning_rate"], row["beta"]) in settings:
            theirs = dpo[row["data"], row["seed"], row["learning_rate"], row["beta"]]
            row["lc_win_rate"] = theirs["lc_win_rate"]
    for number in (EQUAL, MOST_SETTINGS):
        found = verdict(rows, number)
        assert found.verdict == (HOLDS if tied == 8 else NO_DIFFERENCE)
        assert found.effect == pytest.approx(
            (0.1 if number == EQUAL else 1) * (16 - tied) / 16, 0.05
        )
        assert verdict(rows, number, "T 1").verdict == HOLDS


def test_two_methods_whose_answers_are_the_same_do_not_differ_at_their_best_either():
    rows = changed(made_up_results({}), lambda row: {"lc_win_rate": 0.6, "lc_win_rate_at_1": 0.6})
    for number in LC_CLAIMS:
        if number != WHERE_IT_BREAKS:
            assert verdict(rows, number).verdict == NO_DIFFERENCE
    assert verdict(rows, ALIKE).verdict == HOLDS, "alike they are, all the same"


def test_two_spaces_are_alike_only_if_the_whole_interval_is_within_the_tolerance():
    def alike(effects, **more):
        rows = made_up_results(effects, control_seeds=(), **more)
        return verdict(rows, ALIKE).verdict

    assert alike({}) == HOLDS
    assert alike({"adadpo": 0.04}) == HOLDS  # different, but not by much
    assert alike({"adadpo": 0.1}) == alike({"adadpo_policy": 0.1}) == FAILS
    assert alike({}, noise_level=1.0) == UNDECIDED
    assert CLAIMS[ALIKE].spaces == (RATIO,) and CLAIMS[EQUAL].spaces == (RATIO, POLICY)


def test_where_there_are_no_such_runs_or_too_few_there_is_no_verdict(better):
    dpo_only = [row for row in better if row["method"] == "dpo"]
    for number in range(len(CLAIMS)):
        for found in CLAIMS[number].verdicts(dpo_only, "tone", RATIO).values():
            assert (found.verdict, found.seeds) == (NOT_RUN, 0)
    one = [row for row in better if row["seed"] == 0]
    single = verdict(one, EQUAL)
    assert single.verdict == UNDECIDED and math.isnan(single.interval[0]) and single.seeds == 1
    assert "(one seed)" in single.text
    assert verdict(one, AT_ITS_BEST).verdict == NOT_RUN  # nothing to choose on
    assert verdict(better, EQUAL, data="refusal").verdict == NOT_RUN


def test_the_data_sets_are_in_the_order_of_the_file(better):
    assert data_sets(better) == list(SETS) == data_sets(better, "controls")
    assert data_sets(list(reversed(better))) == list(reversed(SETS))


def test_worse_is_the_mirror_of_better():
    assert {name: -effect for name, effect in BETTER.items()} == WORSE
