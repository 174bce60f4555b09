"""The verdicts on claims about the grid, on made-up results whose truth is known."""

import math
import random
from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest

from adadpo_mini.paper.claims import (
    CLAIMS,
    CONTROLS,
    adapting_helps,
    beats_dpo_at_its_best,
    better_accuracy,
    ceiling_two_is_best,
    headline,
    high_ceiling_is_worse,
    higher_lc_in_most_settings,
    higher_lc_on_average,
    larger_lc_gap,
    larger_margin,
    lower_kl,
    spaces_are_alike,
    stable_beats_raw,
    verdict_table,
    verdicts,
)
from adadpo_mini.paper.comparisons import best_setting, paired_differences
from adadpo_mini.paper.intervals import wilson_interval
from adadpo_mini.paper.results import closing_rows
from adadpo_mini.paper.verdict import FAILS, HOLDS, UNDECIDED, Verdict
from tests.paper.made_up import (
    BETAS,
    BETTER,
    LEARNING_RATES,
    SEEDS,
    SETS,
    WORSE,
    made_up_results,
)

GRID_EFFECTS = {  # what an LC difference of 0.1 is in each claim's unit, see `run`
    adapting_helps: 0.1,
    beats_dpo_at_its_best: 0.1,
    higher_lc_on_average: 0.1,
    larger_lc_gap: 0.05,
    better_accuracy: 0.1 / 3,
    larger_margin: 0.2,
    lower_kl: -2.0,
}
COUNTED = (higher_lc_in_most_settings, ceiling_two_is_best, high_ceiling_is_worse, stable_beats_raw)
DIRECTED = [*GRID_EFFECTS, *COUNTED]


@pytest.mark.parametrize("claim", DIRECTED)
def test_what_is_true_holds_what_is_false_fails_and_no_difference_is_undecided(
    claim, better, same, worse
):
    assert [claim(rows).verdict for rows in (better, same, worse)] == [HOLDS, UNDECIDED, FAILS]


@pytest.mark.parametrize("claim", GRID_EFFECTS)
def test_the_effect_is_the_one_put_in_and_lies_in_its_interval(claim, better, worse):
    for rows, sign in ((better, 1), (worse, -1)):
        verdict, truth = claim(rows), sign * GRID_EFFECTS[claim]
        assert verdict.effect == pytest.approx(truth, abs=0.1 * abs(truth))
        low, high = verdict.interval
        assert low < verdict.effect < high and low <= truth <= high


def test_every_run_that_is_used_is_counted(better):
    pairs = len(SETS) * len(SEEDS)
    assert higher_lc_on_average(better).runs == 2 * pairs * 16
    assert higher_lc_in_most_settings(better).runs == 2 * pairs * 16
    assert beats_dpo_at_its_best(better).runs == 2 * pairs * 16
    assert stable_beats_raw(better).runs == 2 * pairs
    assert ceiling_two_is_best(better).runs == 4 * pairs
    assert high_ceiling_is_worse(better).runs == 3 * pairs


def test_the_interval_is_students_over_the_settings_not_over_the_runs(better):
    rows = [row for row in better if row["learning_rate"] == 1e-4 and row["data"] == "swap"]
    dpo, adadpo = (closing_rows(rows, "grid", method) for method in ("dpo", "adadpo"))
    means = [
        fmean(a["lc_win_rate"] for a in adadpo if a["beta"] == beta)
        - fmean(d["lc_win_rate"] for d in dpo if d["beta"] == beta)
        for beta in BETAS
    ]
    spread = math.sqrt(sum((mean - fmean(means)) ** 2 for mean in means) / 3)
    half_width = 3.182446 * spread / 2  # t(0.975, 3) and 4 settings
    expected = (fmean(means) - half_width, fmean(means) + half_width)
    assert higher_lc_on_average(rows).interval == pytest.approx(expected, rel=1e-5)


def test_a_run_is_compared_with_the_run_of_its_own_data_seed_learning_rate_and_beta():
    rows = made_up_results({}, noise_level=0.0)
    for row in rows:  # a difference that any other pairing would blur
        if row["lc_win_rate"] is not None:
            row["lc_win_rate"] += row["seed"] * 0.1 + (row["method"] == "adadpo") * 0.01
    ours, theirs = (closing_rows(rows, "grid", method) for method in ("adadpo", "dpo"))
    theirs.reverse()
    differences = paired_differences(ours, theirs, lambda row: row["lc_win_rate"])
    assert len(differences) == 48
    for seeds in differences.values():
        assert list(seeds.values()) == pytest.approx([0.01] * 5)


def test_runs_without_a_counterpart_or_a_measurement_are_left_out(better):
    rows = [row for row in better if (row["method"], row["seed"]) != ("dpo", 4)]
    assert higher_lc_on_average(rows).runs == 2 * 48 * 4
    unknown = [dict(row, kl=None) if row["seed"] == 0 else row for row in better]
    assert lower_kl(unknown).runs == 2 * 48 * 4


def test_dpo_at_its_own_best_setting_can_beat_an_adadpo_that_is_ahead_on_average():
    rows = made_up_results({"adadpo": 0.1})
    for row in rows:
        at_best = row["learning_rate"] == 2e-4 and row["beta"] == 0.1
        if row["method"] == "dpo" and at_best and row["lc_win_rate"] is not None:
            row["lc_win_rate"] += 0.2
    assert higher_lc_on_average(rows).verdict == HOLDS
    assert beats_dpo_at_its_best(rows).verdict == FAILS
    assert beats_dpo_at_its_best(rows).effect == pytest.approx(-0.1, abs=0.02)
    assert best_setting(rows, "tone", "dpo") == (2e-4, 0.1)
    assert best_setting(rows, "unheard of", "dpo") is None


def lucky_grid(seed):
    """Closing rows of DPO, the same everywhere, and of AdaDPO, the same but for luck."""
    luck = random.Random(seed)
    for data, run_seed, learning_rate, beta in product(SETS, SEEDS, LEARNING_RATES, BETAS):
        for method, spread in (("dpo", 0.0), ("adadpo", 0.1)):
            yield {
                "experiment": "grid", "method": method, "data": data, "seed": run_seed,
                "learning_rate": learning_rate, "beta": beta, "step": 40, "steps": 40,
                "lc_win_rate": 0.5 + luck.gauss(0, spread),
            }  # fmt: skip


def test_choosing_a_setting_by_luck_flatters_nobody():
    found = [beats_dpo_at_its_best(list(lucky_grid(seed))) for seed in range(60)]
    # The mean at the best of 16 settings is 0.08 above the others.
    assert abs(fmean(verdict.effect for verdict in found)) < 0.015
    # 3 in 60 may be wrong; a plain t interval would be in about 10.
    assert sum(verdict.verdict != UNDECIDED for verdict in found) <= 6


def test_the_share_of_settings_is_counted_with_half_a_point_for_a_tie():
    rows = made_up_results({"adadpo": 0.1}, noise_level=0.0, sets=("tone",))
    dpo = {
        (row["seed"], row["learning_rate"]): row["lc_win_rate"]
        for row in closing_rows(rows, "grid", "dpo")
        if row["beta"] == 1.0
    }
    for row in rows:
        if row["lc_win_rate"] is not None and row["method"] == "adadpo":
            if row["beta"] == 0.3:
                row["lc_win_rate"] -= 0.5
            if row["beta"] == 1.0:
                row["lc_win_rate"] = dpo[row["seed"], row["learning_rate"]]
    verdict = higher_lc_in_most_settings(rows)
    assert verdict.effect == (8 + 0.5 * 4) / 16
    assert verdict.verdict == UNDECIDED and verdict.interval == wilson_interval(0.625, 16)


def test_two_spaces_are_alike_only_if_the_whole_interval_is_within_the_tolerance(same):
    assert spaces_are_alike(same).verdict == HOLDS
    nearly = made_up_results({"adadpo": 0.04})
    assert spaces_are_alike(nearly).verdict == HOLDS  # different, but not by much
    apart = made_up_results({"adadpo": 0.1})
    assert spaces_are_alike(apart).verdict == FAILS
    assert spaces_are_alike(made_up_results({"adadpo_policy": 0.1})).verdict == FAILS
    blurred = made_up_results({}, noise_level=1.0, sets=("tone",))
    assert spaces_are_alike(blurred).verdict == UNDECIDED


def test_two_spaces_that_differ_one_way_here_and_the_other_way_there_are_not_alike():
    rows = made_up_results({}, sets=("swap", "tone"))
    for row in rows:
        if row["method"] == "adadpo" and row["lc_win_rate"] is not None:
            row["lc_win_rate"] += 0.08 if row["data"] == "swap" else -0.08
    verdict = spaces_are_alike(rows)
    assert verdict.verdict == UNDECIDED and -0.05 < verdict.interval[0] < verdict.interval[1] < 0.05


def test_where_there_are_no_such_runs_or_too_few_all_is_undecided(better):
    dpo_only = [row for row in better if row["method"] == "dpo"]
    for verdict in verdicts(dpo_only):
        assert (verdict.verdict, verdict.runs) == (UNDECIDED, 0)
        assert (verdict.effect_text, verdict.interval_text) == ("–", "–")
    one = [
        row
        for row in better
        if row["data"] == "tone" and row["seed"] == 0
        and row["beta"] == 0.1 and row["learning_rate"] == 2e-4
    ]  # fmt: skip
    single = higher_lc_on_average(one)
    assert single.verdict == UNDECIDED and single.interval_text == "–" and single.runs == 2
    assert beats_dpo_at_its_best(one).runs == 0  # nothing to choose on


def test_the_verdict_follows_the_interval_alone():
    verdict = Verdict("x", HOLDS, 0.5, (0.25, 12.0), "in LC win rate", 4, "")
    assert verdict.effect_text == "+0.500 in LC win rate"
    assert verdict.interval_text == "+0.250 to +12.0"
    assert replace(verdict, effect=-0.5, unit="of the settings").effect_text.startswith("−0.50 ")


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        (BETTER, "AdaDPO is better than the fixed ratio"),
        (WORSE, "AdaDPO is worse than the fixed ratio"),
        ({**BETTER, "fixed_ratio": 0.2}, "AdaDPO is worse than the fixed ratio"),
        (
            {**BETTER, "dpo": 0.3},
            "AdaDPO is worse than DPO, each at its own best",
        ),
    ],
)
def test_the_table_begins_with_how_adadpo_does_against_the_controls(effects, said):
    rows = made_up_results(effects)
    table = verdict_table(rows)
    assert said in table.splitlines()[0] and table.splitlines()[0] == f"**{headline(rows)}**"
    body = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert [line.startswith("| Control") for line in body[: len(CONTROLS) + 1]] == [True] * 2 + [
        False
    ]


def test_no_difference_is_reported_as_not_shown(same):
    assert "not shown to be better than the fixed ratio" in verdict_table(same).splitlines()[0]


def test_the_table_has_a_row_of_six_cells_for_each_claim(better):
    rows = [line for line in verdict_table(better).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(CLAIMS) and {
        line.replace("\\|", "").count("|") for line in rows
    } == {7}
