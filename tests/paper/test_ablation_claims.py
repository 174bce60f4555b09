"""The claims about ablations, on made-up results whose truth is known."""

from adadpo_mini.paper.ablation_claims import (
    ceiling_two_is_best,
    high_ceiling_is_worse,
    stable_beats_raw,
)
from adadpo_mini.paper.comparisons import ablation_rows
from adadpo_mini.paper.verdict import FAILS, HOLDS, UNDECIDED


def test_an_ablation_borrows_from_the_grid_what_was_not_run_twice(better):
    form = ablation_rows(better, "form")
    counts = {m: sum(r["method"] == m for r in form) for m in {r["method"] for r in form}}
    assert counts == dict.fromkeys(("adadpo", "adadpo_policy", "adadpo_raw"), 15)
    assert {r["k"] for r in ablation_rows(better, "k")} == {0.5, 1.0, 2.0}
    assert {r["floor"] for r in ablation_rows(better, "floor")} == {None, 1.0}
    ceilings = ablation_rows(better, "ceiling")  # C = 2 is there already
    assert len(ceilings) == 4 * 15 and {r["experiment"] for r in ceilings} == {"ceiling"}


def test_an_ablation_on_fresh_seeds_lends_its_default_to_the_others_and_carries_no_warning(better):
    fresh = [
        row if row["experiment"] == "grid" else dict(row, seed=row["seed"] + 5) for row in better
    ]
    form = ablation_rows(fresh, "form")  # the stable form is the ceiling ablation's at C = 2
    assert {(r["method"], r["experiment"]) for r in form} == {
        ("adadpo_raw", "form"), ("adadpo", "ceiling"),
    }  # fmt: skip
    assert {r["k"] for r in ablation_rows(fresh, "k")} == {0.5, 1.0, 2.0}
    for claim in (ceiling_two_is_best, high_ceiling_is_worse, stable_beats_raw):
        assert "favours the default" in claim(better).note
        assert "favours the default" not in claim(fresh).note
        assert claim(fresh).verdict == claim(better).verdict == HOLDS


def test_the_ceiling_is_judged_at_each_of_its_two_settings_by_the_runs_there_alone(better):
    at_defaults = {"experiment": "ceiling_at_defaults"}
    assert high_ceiling_is_worse(better).verdict == HOLDS
    assert high_ceiling_is_worse(better, **at_defaults).verdict == FAILS
    assert ceiling_two_is_best(better, **at_defaults).verdict == FAILS
    alone = [row for row in better if row["experiment"] in ("grid", "ceiling")]
    assert high_ceiling_is_worse(alone).effect == high_ceiling_is_worse(better).effect
    assert high_ceiling_is_worse(alone, **at_defaults).runs == 0


def test_a_flat_ablation_in_which_luck_decides_the_best_is_undecided(same):
    assert ceiling_two_is_best(same).verdict == UNDECIDED
    assert "1.5:" in ceiling_two_is_best(same).note and "5:" in ceiling_two_is_best(same).note


def test_a_knob_that_is_not_recorded_is_left_out_of_its_ablation(better):
    unknown = [dict(row, ceiling=None) if row["ceiling"] == 5.0 else row for row in better]
    assert "2: 0.64, 5: " in ceiling_two_is_best(better).note
    assert "2: 0.64, 10: " in ceiling_two_is_best(unknown).note


def test_the_note_says_how_many_pairs_the_ceiling_of_two_touches(better):
    shares = {"near_duplicate": 0.25, "swap": 0.5, "tone": 1.0}
    rows = [
        dict(row, ceiling_share=shares[row["data"]] if row["ceiling"] == 2.0 else 0.75)
        for row in better
    ]
    touched = "at the ceiling of 2 after training: near_duplicate 0.25, swap 0.50, tone 1.00"
    for claim in (ceiling_two_is_best, high_ceiling_is_worse):
        assert touched in claim(rows).note
    unknown = [dict(row, ceiling_share=None) for row in rows]
    assert "after training" not in ceiling_two_is_best(unknown).note
