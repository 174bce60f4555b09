"""AdaDPO against its controls: what of its effect is dose, what is adapting, what is neither.

All runs of a comparison have the same data, setting and seed. They are at DPO's best setting of the
grid, on other seeds than the grid's, and at a setting that is too hard for DPO.
"""

from collections.abc import Sequence
from functools import partial
from statistics import fmean

from adadpo_mini.paper.claims import LC, POLICY, RATIO, Claim
from adadpo_mini.paper.comparisons import (
    Measure,
    at_setting,
    best_setting,
    paired_differences,
)
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.selection import Options, picked_on_other_seeds, widening
from adadpo_mini.paper.verdict import Units

FAIR, HARD = "at DPO's best setting", "at a setting that is too hard"
ENDS = {RATIO: "", POLICY: "_policy"}
"""The end of the names of AdaDPO's experiments, by its space."""


def control_settings(rows: Sequence[Row], data: str) -> dict[str, tuple[float, float]]:
    """Return (learning rate, β) of both kinds of settings, those of a data set that have runs.

    The fair one is DPO's best of the grid; the hard one is the same for all sets. Both are the same
    where DPO is best at the hard one.
    """
    by_data: dict[str, set[tuple]] = {}
    for row in closing_rows(rows, "controls", RATIO):
        by_data.setdefault(row["data"], set()).add((row["learning_rate"], row["beta"]))
    found = by_data.get(data)
    if not found:
        return {}
    best = best_setting(rows, data, "dpo")
    hard = max(set.intersection(*by_data.values()) - {best} or found)
    return {FAIR: best, HARD: hard} if best in found else {HARD: hard}


def control_rows(
    rows: Sequence[Row], data: str, where: str, experiment: str, *methods: str
) -> list[Row]:
    """Return the closing rows of methods in an experiment, at one kind of setting."""
    setting = control_settings(rows, data).get(where)
    found = closing_rows(rows, experiment, *methods)
    return list(at_setting(found, data, setting)) if setting else []


def against(
    rows: Sequence[Row],
    data: str,
    method: str,
    measure: Measure,
    *,
    where: str,
    rival: str,
    of: str = "controls",
    ours: str = "controls",
) -> Units:
    """Return AdaDPO minus a rival, by seed.

    Args:
        rival, of: the rival's method, and its experiment; "{end}" becomes the space's end.
        ours: AdaDPO's experiment.
    """
    end = ENDS[method]
    mine = control_rows(rows, data, where, ours.format(end=end), method)
    theirs = control_rows(rows, data, where, of.format(end=end), rival)
    differences = paired_differences(mine, theirs, measure)
    values = [value for seeds in differences.values() for value in seeds.values()]
    own = [row["mean_rho"] for row in mine if row["mean_rho"] is not None]
    is_scaled = ours != "controls" and own
    return Units.of(values, note=f"its mean ρ {fmean(own):.2f}" if is_scaled else "")


def against_best_step(
    rows: Sequence[Row], data: str, method: str, measure: Measure, *, where: str
) -> Units:
    """Return AdaDPO at the last step minus DPO at its best step, chosen on the other seeds."""
    setting = control_settings(rows, data).get(where)
    steps: Options = {}
    own = [row for row in rows if (row["experiment"], row["method"]) == ("controls", "dpo")]
    for row in at_setting(own, data, setting) if setting else ():
        if row["step"] and (value := measure(row)) is not None:
            steps.setdefault((data, row["seed"]), {})[row["step"]] = value
    best = picked_on_other_seeds(steps)
    mine = control_rows(rows, data, where, "controls", method)
    values = [
        value - best[data, row["seed"]]
        for row in mine
        if (value := measure(row)) is not None and (data, row["seed"]) in best
    ]
    return Units.of(values, widen=widening(best))


def _claims(where: str) -> tuple[Claim, ...]:
    rivals = {
        "DPO": {"rival": "dpo"},
        "DPO + NLL (RPO)": {"rival": "rpo"},
        "DPO with AdaDPO's gradient norm": {"rival": "dpo_matched_norm", "of": "controls{end}"},
        "the constant that equals its own mean ρ": {"rival": "fixed_ratio", "of": "matched{end}"},
        "one ρ per batch": {"rival": "adadpo_batch", "of": "controls{end}"},
        "the constant 2, a larger dose": {"rival": "fixed_ratio"},
    }
    claims = {
        f"Beats {name}": partial(against, where=where, **options)
        for name, options in rivals.items()
    }
    claims["Beats DPO at DPO's best step"] = partial(against_best_step, where=where)
    claims["Scaled by k = 2/ρ, beats the constant 2"] = partial(
        against, where=where, rival="fixed_ratio", ours="scaled{end}"
    )
    return tuple(Claim(title, "LC win rate", units, LC) for title, units in claims.items())


CONTROLS: dict[str, tuple[Claim, ...]] = {where: _claims(where) for where in (FAIR, HARD)}
"""The claims about controls, by the kind of setting."""
