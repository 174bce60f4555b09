"""Comparing methods over a sweep's results: which runs belong together, and their differences.

`claims.py` says what is compared, claim by claim.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.verdict import (  # noqa: F401 (some only so that old imports work)
    FAILS,
    HOLDS,
    TOLERANCE,
    UNDECIDED,
    Verdict,
    verdict_from,
)

SETTING = ("data", "learning_rate", "beta")
DEFAULTS = {"ceiling": 2.0, "k": 1.0, "floor": None}
ABLATIONS = ("ceiling", "ceiling_at_defaults", "form", "k", "floor")

Measure = Callable[[Row], float | None]
"""Reads a measurement from a row; None if it was not measured."""


def ablation_rows(rows: Sequence[Row], experiment: str) -> list[Row]:
    """Return the `closing_rows` of an ablation, and those of other experiments that belong to it.

    These are AdaDPO's runs with all knobs at their defaults (for `form` in both spaces) that have
    the data, seed, learning rate and β of a run of the ablation. So the defaults need not run once
    for each ablation.
    """
    own = closing_rows(rows, experiment)
    methods = ("adadpo", "adadpo_policy") if experiment == "form" else ("adadpo",)
    places = {place_of(row) for row in own}
    known = {(place_of(row), row["method"], *(row[knob] for knob in DEFAULTS)) for row in own}
    for other in (*ABLATIONS, "grid"):
        for row in closing_rows(rows, other, *methods):
            key = (place_of(row), row["method"], *DEFAULTS.values())
            is_default = all(row[knob] == default for knob, default in DEFAULTS.items())
            if is_default and place_of(row) in places and key not in known:
                known.add(key)
                own.append(row)
    return own


def place_of(row: Row) -> tuple:
    """Return the run's data, learning rate, β and seed."""
    return tuple(row[name] for name in (*SETTING, "seed"))


def seeds_note(rows: Sequence[Row], experiment: str) -> str:
    """Return, for an ablation's note, a warning if its seeds are those that chose its setting.

    The setting is where AdaDPO's defaults did best in the grid, partly by luck. On the grid's seeds
    only the default's runs have that luck; on fresh seeds no run has it.
    """
    grid = {place_of(row) for row in closing_rows(rows, "grid", "adadpo")}
    reused = any(place_of(row) in grid for row in closing_rows(rows, experiment))
    return "; on the seeds that chose the setting, which favours the default" if reused else ""


def best_setting(rows: Sequence[Row], data: str, method: str) -> tuple[float, float] | None:
    """Return the grid's learning rate and β at which a method's mean LC win rate is highest."""
    by_setting: dict[tuple, list[float]] = {}
    for row in closing_rows(rows, "grid", method):
        if row["data"] == data and row["lc_win_rate"] is not None:
            place = (row["learning_rate"], row["beta"])
            by_setting.setdefault(place, []).append(row["lc_win_rate"])
    return max(by_setting, key=lambda place: fmean(by_setting[place]), default=None)


def lc_of(row: Row) -> float | None:
    """Return the run's LC win rate."""
    return row["lc_win_rate"]


def lc_gap_of(row: Row) -> float | None:
    """Return the run's LC win rate minus its win rate."""
    known = row["lc_win_rate"] is not None and row["win_rate"] is not None
    return row["lc_win_rate"] - row["win_rate"] if known else None


Differences = dict[tuple, dict[float, float]]
"""Differences of paired runs, by setting (data, learning rate, β) and then by seed."""


def paired_differences(ours: Iterable[Row], theirs: Iterable[Row], measure: Measure) -> Differences:
    """Return measure(ours) − measure(theirs) of runs with equal data, learning rate, β and seed."""
    rivals = {place_of(row): measure(row) for row in theirs}
    differences: Differences = {}
    for row in ours:
        mine, rival = measure(row), rivals.get(place_of(row))
        if mine is not None and rival is not None:
            *setting, seed = place_of(row)
            differences.setdefault(tuple(setting), {})[seed] = mine - rival
    return differences


def over_settings(
    rows: Sequence[Row],
    claim: str,
    rival: str,
    measure: Measure,
    unit: str,
    side: int = 1,
    tolerance: float | None = None,
) -> Verdict:
    """Return the verdict on AdaDPO against a rival over the grid; the unit is the setting.

    Each run is paired with the rival's run of the same data, seed, learning rate and β. Seeds share
    one pre-trained model and one set of pairs, so they are not independent evidence: their
    differences are averaged within a setting, and the t interval is over settings. Settings differ
    far more than seeds do, which makes the interval wide for this grid. It promises nothing for
    other data, so the note has every data set's mean.
    """
    grid = [closing_rows(rows, "grid", method) for method in ("adadpo", rival)]
    differences = paired_differences(*grid, measure)
    units = [(setting[0], fmean(seeds.values())) for setting, seeds in differences.items()]
    note = f"{len(units)} settings"
    if tolerance is None:
        note = f"ahead in {sum(side * value > 0 for _, value in units)} of {note}"
    elif units:
        note += f", mean |difference| {fmean(abs(value) for _, value in units):.3f}"
    runs = 2 * sum(len(seeds) for seeds in differences.values())
    return verdict_from(claim, units, unit, runs, note, side, tolerance)
