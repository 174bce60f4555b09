"""The verdicts, on made-up results whose truth is known."""

import csv
import math
import random
from dataclasses import replace
from itertools import product
from statistics import fmean

import pytest

from adadpo_mini import InputError
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
    wilson_interval,
)
from adadpo_mini.paper.comparisons import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Verdict,
    ablation_rows,
    best_setting,
    paired_differences,
)
from adadpo_mini.paper.results import COLUMNS, closing_rows, read_measurements

SETS = ("near_duplicate", "swap", "tone")
LEARNING_RATES, BETAS, SEEDS = (5e-5, 1e-4, 2e-4, 5e-4), (0.05, 0.1, 0.3, 1.0), range(5)
STEPS = (0, 20, 40)
BEST = {"learning_rate": 2e-4, "beta": 0.1}
BETTER = {"adadpo": 0.1, "adadpo_policy": 0.1}
WORSE = {"adadpo": -0.1, "adadpo_policy": -0.1}


def run(experiment, data, method, seed, learning_rate, beta, lc, noise, **knobs):
    """The rows of a run that ends with this LC win rate, all else in proportion to it."""
    for step in STEPS:
        row = dict.fromkeys(COLUMNS)
        row |= {"experiment": experiment, "data": data, "method": method, "seed": seed}
        row |= {"steps": STEPS[-1], "batch_size": 16, "beta": beta, "learning_rate": learning_rate}
        row |= {"ceiling": 2.0, "k": 1.0, "ratio": 2.0, "step": step, **knobs}
        part = step / STEPS[-1]
        row |= {"shift_chosen": part * (40 * lc - 20 + noise.gauss(0, 1))}
        row |= {"shift_rejected": part * (20 * lc - 60 + noise.gauss(0, 2))}
        row |= {"accuracy": 0.5 + part * lc / 3, "margin": 2 * part * lc, "rho": 1 + part}
        row |= {"ceiling_share": part * beta / 2}
        if step == STEPS[-1]:
            row |= {"win_rate": 0.2 + lc / 2, "lc_win_rate": lc, "kl": 20 * (1 - lc)}
            row |= {"length": 14.0, "reference_length": 15.0}
        yield row


def made_up_results(effects, ceilings=None, noise_level=0.01, sets=SETS, seeds=SEEDS, seed=0):
    """A whole sweep: DPO's LC win rate depends on data, learning rate and β; the others differ
    from it by `effects`, AdaDPO with another ceiling from AdaDPO by `ceilings`; plus noise."""
    noise = random.Random(seed)
    ceilings = ceilings or {1.5: -0.05, 2.0: 0.0, 5.0: -0.1, 10.0: -0.2}
    rows = []

    def add(experiment, data, method, seed, learning_rate, beta, extra=0.0, **knobs):
        peak = abs(math.log(learning_rate / 2e-4)) + abs(math.log(beta / 0.1))
        lc = 0.5 + 0.05 * SETS.index(data) - 0.05 * peak + effects.get(method, 0.0) + extra
        lc += noise.gauss(0, noise_level)
        rows.extend(run(experiment, data, method, seed, learning_rate, beta, lc, noise, **knobs))

    for data in sets:
        for seed in seeds:
            for learning_rate in LEARNING_RATES:
                for beta in BETAS:
                    for method in ("dpo", "adadpo", "adadpo_policy", "fixed_ratio"):
                        add("grid", data, method, seed, learning_rate, beta)
            for ceiling, extra in ceilings.items():
                add("ceiling", data, "adadpo", seed, **BEST, extra=extra, ceiling=ceiling)
            for k in (0.5, 2.0):
                add("k", data, "adadpo", seed, **BEST, k=k)
            add("floor", data, "adadpo", seed, **BEST, floor=1.0)
            add("form", data, "adadpo_raw", seed, **BEST)
    # At another setting the ceilings do the opposite.
    for data, seed, (ceiling, extra) in product(sets, seeds, ceilings.items()):
        knobs = {"learning_rate": 5e-4, "beta": 0.1, "ceiling": ceiling, "extra": -extra}
        add("ceiling_at_defaults", data, "adadpo", seed + 50, **knobs)
    return rows


def write(rows, path):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def better():
    return made_up_results({**BETTER, "adadpo_raw": 0.02})


@pytest.fixture(scope="module")
def same():
    return made_up_results({}, ceilings={1.5: 0.0, 2.0: 0.0, 5.0: 0.0}, noise_level=0.03)


@pytest.fixture(scope="module")
def worse():
    return made_up_results(
        {**WORSE, "adadpo_raw": 0.05}, ceilings={1.5: 0.05, 2.0: 0.0, 5.0: 0.1, 10.0: 0.1}
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


def test_wilsons_interval_is_scipys():
    from scipy.stats import binomtest

    for won, count in ((0, 5), (3, 16), (13, 16), (48, 48)):
        known = binomtest(won, count).proportion_ci(method="wilson")
        assert wilson_interval(won / count, count) == pytest.approx((known.low, known.high))


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
    assert replace(verdict, effect=-0.5, unit="share of settings").effect_text.startswith("−0.50 ")


@pytest.mark.parametrize(
    ("effects", "said"),
    [
        (BETTER, "AdaDPO is better than the fixed ratio here"),
        (WORSE, "AdaDPO is worse than the fixed ratio here"),
        ({**BETTER, "fixed_ratio": 0.2}, "AdaDPO is worse than the fixed ratio here"),
        ({**BETTER, "dpo": 0.3}, "AdaDPO is worse than DPO with a learning rate and β of its own"),
    ],
)
def test_the_table_says_first_how_adadpo_fares_against_the_controls(effects, said):
    rows = made_up_results(effects)
    table = verdict_table(rows)
    assert said in table.splitlines()[0] and table.splitlines()[0] == f"**{headline(rows)}**"
    body = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert [line.startswith("| Control") for line in body[: len(CONTROLS) + 1]] == [True] * 2 + [
        False
    ]


def test_no_difference_is_told_as_not_shown(same):
    assert "not shown to be better than the fixed ratio" in verdict_table(same).splitlines()[0]


def test_the_table_has_a_row_of_six_cells_for_each_claim(better):
    rows = [line for line in verdict_table(better).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(CLAIMS) and {
        line.replace("\\|", "").count("|") for line in rows
    } == {7}


def test_results_are_read_back_as_they_were_written(better, tmp_path):
    assert read_measurements(write(better, tmp_path / "results.csv")) == better


def cell(name, text):
    """Puts a text into the cell of this name in line 3."""

    def change(content):
        lines = [line.split(",") for line in content.split("\n")]
        lines[2][COLUMNS.index(name)] = text
        return "\n".join(",".join(line) for line in lines)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "no such file"),
        (lambda text: text.replace("lc_win_rate", "lc"), "not a sweep's results"),
        (lambda text: "", "holds no results"),
        (lambda text: text.splitlines()[0] + "\n", "holds no results"),
        (lambda text: "\ufeff" + text, "line 1: begins with a byte order mark"),
        (lambda text: text.replace("tone", "t\xf6ne").encode("latin-1"), "line 2: is not UTF-8"),
        (lambda text: text.rstrip("\n")[:-20] + "\n", "line 4"),
        (lambda text: text.replace("\n", ",1\n").replace(",1\n", "\n", 1), "line 2"),
        (lambda text: text.replace("grid,tone,dpo,0,40", "grid,tone,dpo,0,"), "line 2"),
        (lambda text: text + text.splitlines()[-1] + "\n", "line 5: .* of line 4 a second time"),
        (cell("seed", "zero"), "line 3: seed must be a number, not 'zero'"),
        (cell("seed", "-1"), "line 3: seed must be a whole number from 0 up, not '-1'"),
        (cell("step", "0.5"), "line 3: step must be a whole number from 0 up, not '0.5'"),
        (cell("step", "50"), "line 3: step 50 is after the last, 40"),
        (cell("steps", "0"), "line 3: steps must be a whole number from 1 up"),
        (cell("beta", "0"), "line 3: beta must be a positive number, not '0'"),
        (cell("margin", "nan"), "line 3: margin must be a finite number.* not 'nan'"),
        (cell("margin", "-inf"), "line 3: margin must be a finite number.* not '-inf'"),
        (cell("margin", "1e308"), "line 3: margin must be a finite number, at most 1e.100"),
        (cell("margin", "\0"), "line 3: margin must be a number"),
        (cell("margin", "x" * 1000), "line 3: margin must be a number, not 'x{39}…'.$"),
        (cell("margin", "1" * 200_000), "line 3: cannot be read .field larger"),
        (cell("experiment", "\0"), "line 3: experiment must be a name"),
        (cell("experiment", ""), "line 3: experiment must be a name"),
        (cell("method", "ppo"), "line 3: method must be one of dpo, .*, not 'ppo'"),
        (cell("data", "moon"), "line 3: data must be one of tone, .*, not 'moon'"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(change, message, tmp_path):
    path = tmp_path / "results.csv"
    noise = random.Random(0)
    write(run("grid", "tone", "dpo", 0, 1e-4, 0.1, 0.5, noise), path)
    text = change(path.read_text())
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message):
        read_measurements(path)


def test_a_knob_that_is_not_recorded_is_left_out_of_its_ablation(better):
    unknown = [dict(row, ceiling=None) if row["ceiling"] == 5.0 else row for row in better]
    assert "2: 0.64, 5: " in ceiling_two_is_best(better).note
    assert "2: 0.64, 10: " in ceiling_two_is_best(unknown).note
