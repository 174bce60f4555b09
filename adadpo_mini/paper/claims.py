"""What the AdaDPO paper claims, tested on a sweep's results: verdict, effect and interval of each.

Statistics and nothing else: `report.py` draws, `sweep.py` measures. The claims about ablations are
in `ablation_claims.py`.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import fmean

from adadpo_mini.paper.ablation_claims import (
    ceiling_two_is_best,
    high_ceiling_is_worse,
    stable_beats_raw,
)
from adadpo_mini.paper.comparisons import lc_gap_of, lc_of, over_settings, paired_differences
from adadpo_mini.paper.intervals import wilson_interval
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.selection import Options, picked_on_other_seeds, widening
from adadpo_mini.paper.verdict import (
    FAILS,
    HOLDS,
    LC,
    OF_SETTINGS,
    TOLERANCE,
    UNDECIDED,
    Verdict,
    by_data_set,
    decide,
    verdict_from,
)
from adadpo_mini.system.markdown import markdown_table


def adapting_helps(rows: Sequence[Row]) -> Verdict:
    """Return the control's verdict: does AdaDPO beat the fixed ratio, which does not adapt?"""
    claim = "Control: AdaDPO beats the fixed ratio, so adapting helps"
    return over_settings(rows, claim, "fixed_ratio", lc_of, LC)


def beats_dpo_at_its_best(rows: Sequence[Row]) -> Verdict:
    """Return the control's verdict: does AdaDPO beat DPO, each at its best learning rate and β?

    For each data set and seed, either method's best setting is chosen on the *other* seeds, so a
    lucky run flatters neither. The unit is the pair of data set and seed; the t interval is over
    these, widened by `widening`.
    """
    options = {method: _options(rows, method) for method in ("adadpo", "dpo")}
    picked = {method: picked_on_other_seeds(table) for method, table in options.items()}
    places = [place for place in picked["adadpo"] if place in picked["dpo"]]
    units = [
        (data, picked["adadpo"][data, seed] - picked["dpo"][data, seed]) for data, seed in places
    ]
    runs = sum(len(table[place]) for table in options.values() for place in places)
    claim = "Control: AdaDPO beats DPO, each at its own best learning rate and β"
    note = f"{len(units)} pairs of data set and seed, best setting chosen on the other seeds"
    return verdict_from(claim, units, LC, runs, note, widen=widening(places))


def _options(rows: Sequence[Row], method: str) -> Options:
    """Return the LC win rate by (data, seed), then by (learning rate, β)."""
    options: Options = {}
    for row in closing_rows(rows, "grid", method):
        if row["lc_win_rate"] is not None:
            choices = options.setdefault((row["data"], row["seed"]), {})
            choices[row["learning_rate"], row["beta"]] = row["lc_win_rate"]
    return options


def higher_lc_in_most_settings(rows: Sequence[Row]) -> Verdict:
    """Return the verdict on the paper's count: the share of settings where AdaDPO's LC is higher.

    A tie counts half. The share is compared with one half by Wilson's 95 % interval, which treats
    settings as independent; neighbouring ones are not quite.
    """
    grid = [closing_rows(rows, "grid", method) for method in ("adadpo", "dpo")]
    differences = paired_differences(*grid, lc_of)
    points = [(setting[0], _points(seeds.values())) for setting, seeds in differences.items()]
    claim = "Higher LC win rate than DPO in most settings"
    if not points:
        return verdict_from(claim, [], OF_SETTINGS, 0, "")
    share, count = fmean(point for _, point in points), len(points)
    interval = wilson_interval(share, count)
    verdict = decide(tuple(end - 0.5 for end in interval))
    runs = 2 * sum(len(seeds) for seeds in differences.values())
    note = f"{count} settings; {by_data_set(points, OF_SETTINGS)}; the paper: 13 of 16"
    return Verdict(claim, verdict, share, interval, OF_SETTINGS, runs, note)


def _points(differences: Iterable[float]) -> float:
    """Return 1 for a setting that is ahead on average, 0.5 for a tie, 0 for one behind."""
    mean = fmean(differences)
    return 0.5 if mean == 0 else float(mean > 0)


def higher_lc_on_average(rows: Sequence[Row]) -> Verdict:
    """Return the verdict on the same comparison as a mean paired difference over the settings."""
    return over_settings(rows, "Higher LC win rate than DPO on average", "dpo", lc_of, LC)


def larger_lc_gap(rows: Sequence[Row]) -> Verdict:
    """Return the verdict: is LC win rate − win rate larger, so that length helps AdaDPO less?"""
    return over_settings(rows, "Larger LC − WR gap than DPO", "dpo", lc_gap_of, "in LC − WR")


def better_accuracy(rows: Sequence[Row]) -> Verdict:
    """Return the verdict: is the share of held-out pairs with u_w > u_l larger at the last step?"""
    claim = "Better held-out accuracy than DPO"
    return over_settings(rows, claim, "dpo", lambda row: row["accuracy"], "in accuracy")


def larger_margin(rows: Sequence[Row]) -> Verdict:
    """Return the verdict: is the held-out margin β·(u_w − u_l) larger at the last step?

    The abstract names the curve but not its direction; "larger" is our reading.
    """
    claim, unit = "Larger reward margin than DPO", "in β·nats"
    return over_settings(rows, claim, "dpo", lambda row: row["margin"], unit)


def lower_kl(rows: Sequence[Row]) -> Verdict:
    """Return the verdict: is KL(π_θ‖π_ref) lower after equally many steps at the same setting?

    The abstract names the curve but not its direction; "closer to the reference" is our reading.
    """
    claim = "Closer to the reference than DPO: lower KL at the same settings and steps"
    return over_settings(rows, claim, "dpo", lambda row: row["kl"], "nats of KL", side=-1)


def spaces_are_alike(rows: Sequence[Row]) -> Verdict:
    """Return the verdict: is ratio space minus policy space within ±`TOLERANCE` over the grid?"""
    claim = f"Ratio and policy space are nearly alike (within ±{TOLERANCE:g})"
    return over_settings(rows, claim, "adadpo_policy", lc_of, LC, tolerance=TOLERANCE)


CONTROLS = (adapting_helps, beats_dpo_at_its_best)
CLAIMS = (
    *CONTROLS,
    higher_lc_in_most_settings,
    higher_lc_on_average,
    larger_lc_gap,
    better_accuracy,
    larger_margin,
    lower_kl,
    ceiling_two_is_best,
    high_ceiling_is_worse,
    partial(ceiling_two_is_best, experiment="ceiling_at_defaults"),
    partial(high_ceiling_is_worse, experiment="ceiling_at_defaults"),
    stable_beats_raw,
    spaces_are_alike,
)
RIVALS = ("the fixed ratio", "DPO, each at its own best learning rate and β")
"""AdaDPO's rival in each of the controls."""


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Return the verdict on every claim, the controls first."""
    return [claim(rows) for claim in CLAIMS]


def headline(rows: Sequence[Row]) -> str:
    """Return what to know before reading the table: how AdaDPO does against the two controls."""
    compared = zip(CONTROLS, RIVALS, strict=True)
    return " ".join(_sentence(control(rows), rival) for control, rival in compared)


def _sentence(verdict: Verdict, rival: str) -> str:
    if not verdict.runs:
        return f"AdaDPO was not compared with {rival}."
    how = {HOLDS: "better", FAILS: "worse", UNDECIDED: "not shown to be better"}[verdict.verdict]
    interval = f"95 % interval {verdict.interval_text}"
    return f"Here AdaDPO is {how} than {rival}: {verdict.effect_text}, {interval}."


FOOTNOTE = (
    "A claim holds if its 95 % interval lies entirely on the claimed side, and fails if it lies "
    "entirely on the other. The intervals are not corrected for the number of claims. Win rates "
    "are against the answers of the reference model; LC means length-controlled. Comparisons over "
    "the grid pair runs with the same data, seed, learning rate and β, average over the seeds of a "
    "setting, and treat settings as the unit."
)


def verdict_table(rows: Sequence[Row]) -> str:
    """Return the headline, a Markdown table with a row for each claim, and the footnote."""
    head = ("claim", "verdict", "effect", "95 % interval", "runs", "note")
    cells = [
        (v.claim, f"**{v.verdict}**", v.effect_text, v.interval_text, str(v.runs), v.note)
        for v in verdicts(rows)
    ]
    return "\n\n".join([f"**{headline(rows)}**", markdown_table(head, cells), FOOTNOTE])
