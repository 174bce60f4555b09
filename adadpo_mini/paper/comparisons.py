"""Comparing methods over a sweep's results: pairs of runs, their differences, and a verdict.

What is compared, claim by claim, is in `claims.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from adadpo_mini.paper.results import Estimate, Row, closing_rows

SETTING = ("data", "learning_rate", "beta")
DEFAULTS = {"ceiling": 2.0, "k": 1.0, "floor": None}
ABLATIONS = ("ceiling", "ceiling_at_defaults", "form", "k", "floor")
HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided here"
TOLERANCE = 0.05
"""Two LC win rates this close are "nearly alike"; the paper's AdaDPO and DPO are 0.019 apart."""

Measure = Callable[[Row], float | None]


def ablation_rows(rows: Sequence[Row], experiment: str) -> list[Row]:
    """`closing_rows` of an ablation, and runs from elsewhere that belong to it: the defaults.

    Those are AdaDPO's (in `form` those of both spaces), with all knobs at their defaults and the
    data, seed, learning rate and β of one of its own: they need not be run once for each ablation.
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
    return tuple(row[name] for name in (*SETTING, "seed"))


def seeds_note(rows: Sequence[Row], experiment: str) -> str:
    """For an ablation's note: a warning if its seeds are those that its setting was chosen by.

    The setting is where AdaDPO's defaults did best in the grid, partly by luck. With the grid's
    seeds that luck is in the default's runs and not in the others'; with fresh seeds it is in none.
    """
    grid = {place_of(row) for row in closing_rows(rows, "grid", "adadpo")}
    reused = any(place_of(row) in grid for row in closing_rows(rows, experiment))
    return "; on the seeds that chose the setting, which favours the default" if reused else ""


def best_setting(rows: Sequence[Row], data: str, method: str) -> tuple[float, float] | None:
    """The learning rate and β of the grid at which a method's mean LC win rate is highest."""
    by_setting: dict[tuple, list[float]] = {}
    for row in closing_rows(rows, "grid", method):
        if row["data"] == data and row["lc_win_rate"] is not None:
            place = (row["learning_rate"], row["beta"])
            by_setting.setdefault(place, []).append(row["lc_win_rate"])
    return max(by_setting, key=lambda place: fmean(by_setting[place]), default=None)


@dataclass(frozen=True)
class Verdict:
    """What a sweep says of one claim.

    Attributes:
        claim: what is claimed.
        verdict: "holds" if the interval lies wholly on the claimed side, "fails" if wholly on the
            other, else "undecided here". A claim that two things are alike holds if the interval
            and every data set's mean lie within ±`TOLERANCE`, and fails if the interval lies
            wholly outside.
        effect: the mean over the units that the note names.
        interval: its 95 % interval; (nan, nan) if there are too few units.
        unit: of the effect.
        runs: how many runs it was computed from.
        note: what the units are, and how it looks from data set to data set.
    """

    claim: str
    verdict: str
    effect: float
    interval: tuple[float, float]
    unit: str
    runs: int
    note: str

    @property
    def effect_text(self) -> str:
        return f"{_number(self.effect, self.unit)} {self.unit}" if self.runs else "–"

    @property
    def interval_text(self) -> str:
        known = self.interval[0] == self.interval[0]  # not nan
        return " to ".join(_number(end, self.unit) for end in self.interval) if known else "–"


def _number(value: float, unit: str) -> str:
    form = ".2f" if unit.startswith("share") else "+.3f" if abs(value) < 10 else "+.1f"
    return f"{value:{form}}".replace("-", "−")


def decide(
    interval: tuple[float, float], side: int, threshold: float, tolerance: float | None
) -> str:
    low, high = interval
    if tolerance is not None:
        if -tolerance <= low and high <= tolerance:
            return HOLDS
        return FAILS if low > tolerance or high < -tolerance else UNDECIDED
    if side < 0:
        low, high = 2 * threshold - high, 2 * threshold - low
    return HOLDS if low > threshold else FAILS if high < threshold else UNDECIDED


LC = "in LC win rate"


def lc_of(row: Row) -> float | None:
    return row["lc_win_rate"]


def lc_gap_of(row: Row) -> float | None:
    known = row["lc_win_rate"] is not None and row["win_rate"] is not None
    return row["lc_win_rate"] - row["win_rate"] if known else None


Differences = dict[tuple, dict[float, float]]
"""Differences of paired runs, by setting (data, learning rate, β) and then by seed."""


def paired_differences(ours: Iterable[Row], theirs: Iterable[Row], measure: Measure) -> Differences:
    """measure(ours) − measure(theirs) of the runs with equal data, learning rate, β and seed."""
    rivals = {place_of(row): measure(row) for row in theirs}
    differences: Differences = {}
    for row in ours:
        mine, rival = measure(row), rivals.get(place_of(row))
        if mine is not None and rival is not None:
            *setting, seed = place_of(row)
            differences.setdefault(tuple(setting), {})[seed] = mine - rival
    return differences


def _means_by_data_set(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    grouped: dict[str, list[float]] = {}
    for data, value in values:
        grouped.setdefault(data, []).append(value)
    return {data: fmean(grouped[data]) for data in sorted(grouped)}


def by_data_set(values: Iterable[tuple[str, float]], unit: str) -> str:
    means = _means_by_data_set(values)
    return ", ".join(f"{data} {_number(mean, unit)}" for data, mean in means.items())


def _furthest(values: Iterable[tuple[str, float]]) -> float:
    return max(abs(mean) for mean in _means_by_data_set(values).values())


def verdict_from(
    claim: str,
    units: Sequence[tuple[str, float]],
    unit: str,
    runs: int,
    note: str,
    side: int = 1,
    tolerance: float | None = None,
    widen: float = 1.0,
) -> Verdict:
    """The verdict on the mean of `units`, each (data set, value), with Student's t interval.

    `widen` multiplies the interval's half-width; see `_widening`.
    """
    if not units:
        nan = float("nan")
        return Verdict(claim, UNDECIDED, nan, (nan, nan), unit, 0, "no such runs in the results")
    estimate = Estimate.of([value for _, value in units])
    half_width = widen * estimate.half_width
    interval = (estimate.mean - half_width, estimate.mean + half_width)
    verdict = decide(interval, side, 0.0, tolerance)
    if tolerance is not None and verdict == HOLDS and _furthest(units) > tolerance:
        verdict = UNDECIDED  # alike on average only because data sets cancel out
    by_data = by_data_set(units, unit)
    return Verdict(claim, verdict, estimate.mean, interval, unit, runs, f"{note}; {by_data}")


def over_settings(
    rows: Sequence[Row],
    claim: str,
    theirs: str,
    measure: Measure,
    unit: str,
    ours: str = "adadpo",
    side: int = 1,
    tolerance: float | None = None,
) -> Verdict:
    """Ours against theirs over the grid; the unit is the setting, its seeds pooled.

    Each run is paired with the rival's of the same data, seed, learning rate and β. Seeds share one
    pre-trained model and one set of pairs, so they are not counted as independent evidence: their
    differences are averaged within a setting, and the t interval is over settings. Settings differ
    far more than seeds do, which makes the interval wide for this grid; it promises nothing for
    other data, so the note gives every data set's mean.
    """
    grid = [closing_rows(rows, "grid", method) for method in (ours, theirs)]
    differences = paired_differences(*grid, measure)
    units = [(setting[0], fmean(seeds.values())) for setting, seeds in differences.items()]
    ahead = sum(side * value > 0 for _, value in units)
    note = f"{len(units)} settings"
    if tolerance is None:
        note = f"ahead in {ahead} of {note}"
    if tolerance is not None and units:
        note += f", mean |difference| {fmean(abs(value) for _, value in units):.3f}"
    runs = 2 * sum(len(seeds) for seeds in differences.values())
    return verdict_from(claim, units, unit, runs, note, side, tolerance)
