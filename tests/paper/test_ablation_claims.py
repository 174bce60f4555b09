"""The claims about ablations, on made-up results whose truth is known."""

import pytest

from adadpo_mini.paper.ablation_claims import ABLATIONS, ablation_rows
from adadpo_mini.paper.claims import RATIO
from adadpo_mini.paper.verdict import (
    FAILS,
    HOLDS,
    NO_DIFFERENCE,
    NOT_APPLICABLE,
    NOT_RUN,
    UNDECIDED,
)
from tests.paper.made_up import BEST, CEILINGS, CONTROL_SEEDS, SETS, changed, made_up_results

TWO_IS_BEST, HIGH_IS_WORSE, TWO_IS_BEST_HARD, HIGH_IS_WORSE_HARD, STABLE = range(5)


def verdict(rows, number, measure="T 0.7", data="tone"):
    return ABLATIONS[number].verdicts(rows, data, RATIO)[measure]


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("measure", ["T 0.7", "T 1"])
def test_what_is_true_holds_what_is_false_fails(measure, data, better, worse):
    for number in (TWO_IS_BEST, HIGH_IS_WORSE, STABLE):
        assert verdict(better, number, measure, data).verdict == HOLDS
        assert verdict(worse, number, measure, data).verdict == FAILS


def test_the_effects_are_those_put_in(better):
    half = {"T 0.7": 1, "T 1": 0.5}
    for measure, part in half.items():
        assert verdict(better, TWO_IS_BEST, measure).effect == pytest.approx(0.06 * part, abs=0.015)
        assert verdict(better, HIGH_IS_WORSE, measure).effect == pytest.approx(
            (CEILINGS[5.0] + CEILINGS[10.0]) / 2 * part, abs=0.015
        )
        assert verdict(better, STABLE, measure).effect == pytest.approx(0.08 * part, abs=0.015)
    assert verdict(better, STABLE).seeds == len(CONTROL_SEEDS)


def test_the_ceiling_is_judged_at_each_of_its_two_settings_by_the_runs_there_alone(better):
    assert verdict(better, HIGH_IS_WORSE_HARD).verdict == FAILS  # there the truth is the opposite
    assert verdict(better, TWO_IS_BEST_HARD).verdict == FAILS
    alone = [row for row in better if row["experiment"] != "ceiling_too_hard"]
    assert verdict(alone, HIGH_IS_WORSE).effect == verdict(better, HIGH_IS_WORSE).effect
    assert verdict(alone, HIGH_IS_WORSE_HARD).verdict == NOT_RUN
    assert verdict(alone, HIGH_IS_WORSE_HARD).text == "**not run**"


def test_where_nothing_differs_all_is_undecided(same):
    found = [verdict(same, number, data=data).verdict for number in range(5) for data in SETS]
    assert sum(each != UNDECIDED for each in found) <= 2


def test_an_ablation_borrows_the_default_from_the_controls(better):
    form = ablation_rows(better, "form")
    assert {(r["method"], r["experiment"]) for r in form} == {
        ("adadpo_raw", "form"), ("adadpo", "controls"),
    }  # fmt: skip
    assert len(form) == 2 * len(SETS) * len(CONTROL_SEEDS)
    assert {(r["learning_rate"], r["beta"]) for r in form} == {BEST}
    assert {r["k"] for r in ablation_rows(better, "k")} == {0.5, 1.0, 2.0}
    assert {r["ceiling"] for r in ablation_rows(better, "ceiling")} == {2.0, *CEILINGS}
    assert ablation_rows(better, "floor") == []


def test_the_default_is_taken_from_its_own_experiment_if_the_controls_lack_it(better):
    """AdaDPO's best setting need not be DPO's."""
    renamed = {"experiment": "controls", "method": "adadpo", "learning_rate": BEST[0]}
    rows = changed(better, lambda row: {"experiment": "default"}, **renamed)
    assert {r["experiment"] for r in ablation_rows(rows, "k")} == {"k", "default"}
    assert verdict(rows, STABLE) == verdict(better, STABLE)
    without = [row for row in rows if row["experiment"] != "default"]
    assert verdict(without, STABLE).verdict == NOT_RUN
    assert {r["k"] for r in ablation_rows(without, "k")} == {0.5, 2.0}


def test_a_default_is_not_borrowed_twice_nor_from_a_run_with_other_knobs(better):
    twice = [*better, *changed(
        [row for row in better if row["experiment"] == "controls"],
        lambda row: {"experiment": "default"},
    )]  # fmt: skip
    assert ablation_rows(twice, "form") == ablation_rows(better, "form")
    for knob, value in (("k", 2.0), ("ceiling", 10.0), ("floor", 1.0)):
        other = changed(
            better, lambda row, change={knob: value}: change, experiment="controls", method="adadpo"
        )
        assert {r["experiment"] for r in ablation_rows(other, "form")} == {"form"}, knob


def test_where_no_pair_reaches_the_ceiling_a_claim_about_it_is_not_applicable(better):
    rows = changed(better, lambda row: {"ceiling_share": 0.0}, learning_rate=BEST[0])
    for number in (TWO_IS_BEST, HIGH_IS_WORSE):
        found = verdict(rows, number)
        assert found.verdict == NOT_APPLICABLE
        assert found.text == "**not applicable**, 0% of pairs at the ceiling"
    assert verdict(rows, HIGH_IS_WORSE_HARD).verdict == FAILS
    assert verdict(rows, STABLE).verdict == HOLDS, "this claim is not about the ceiling"


def test_the_lowest_ceiling_decides_whether_any_binds_and_two_whether_a_higher_can_matter(better):
    """A ceiling of 1.5 that pairs reach shows what 1.5 does, not what 5 does instead of 2."""
    rows = changed(better, lambda row: {"ceiling_share": 0.0})
    rows = changed(rows, lambda row: {"ceiling_share": 0.4}, experiment="ceiling", ceiling=1.5)
    assert verdict(rows, TWO_IS_BEST).note == "40% of pairs at the ceiling"
    assert verdict(rows, TWO_IS_BEST).verdict == HOLDS
    assert verdict(rows, HIGH_IS_WORSE).verdict == NOT_APPLICABLE
    shares = changed(better, lambda row: {"ceiling_share": 0.25}, ceiling=2.0)
    assert verdict(shares, HIGH_IS_WORSE).note == "25% of pairs at the ceiling"


def test_ceilings_that_change_no_answer_make_no_difference(better):
    flat = changed(better, lambda row: {"lc_win_rate": 0.6}, method="adadpo")
    assert verdict(flat, TWO_IS_BEST).verdict == verdict(flat, HIGH_IS_WORSE).verdict
    assert verdict(flat, HIGH_IS_WORSE).verdict == NO_DIFFERENCE
    raw = changed(flat, lambda row: {"lc_win_rate": 0.6}, method="adadpo_raw")
    assert verdict(raw, STABLE).verdict == NO_DIFFERENCE


def test_the_best_other_ceiling_is_chosen_on_the_other_seeds():
    """Each seed is lucky at another ceiling: on its own it would choose that, and 2 would fail."""
    lucky = dict(zip(CONTROL_SEEDS, (1.5, 3.0, 5.0, 1.5, 3.0), strict=True))
    rows = [
        {**row, "lc_win_rate": 0.9 if row["ceiling"] == lucky[row["seed"]] else 0.5}
        if row["experiment"] == "ceiling"
        else row
        for row in made_up_results({})
    ]
    rows = changed(rows, lambda row: {"lc_win_rate": 0.7}, experiment="controls", method="adadpo")
    assert verdict(rows, TWO_IS_BEST).effect > 0.7 - 0.9 + 0.15
    assert verdict(rows, TWO_IS_BEST).seeds == 5


def test_a_knob_that_is_not_recorded_is_left_out_of_its_ablation(better):
    unknown = changed(better, lambda row: {"ceiling": None}, experiment="ceiling", ceiling=10.0)
    assert verdict(unknown, HIGH_IS_WORSE).effect == pytest.approx(CEILINGS[5.0], abs=0.015)
