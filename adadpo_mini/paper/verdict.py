"""A verdict on a claim: it follows from the 95 % interval of an effect."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from adadpo_mini.paper.intervals import Estimate

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided here"
TOLERANCE = 0.05
"""Two LC win rates this close are "nearly alike"; the paper's AdaDPO and DPO are 0.019 apart."""
LC = "in LC win rate"
OF_SETTINGS, OF_PAIRS = "of the settings", "of the pairs"
"""Units of effects: of differences, and of shares."""


@dataclass(frozen=True)
class Verdict:
    """A sweep's verdict on one claim.

    Attributes:
        claim: what is claimed.
        verdict: "holds" if the interval lies entirely on the claimed side, "fails" if entirely on
            the other, else "undecided here". A claim that two things are alike holds if the
            interval and every data set's mean lie within ±`TOLERANCE`, and fails if the interval
            lies entirely outside.
        effect: the mean over the units that the note names.
        interval: its 95 % interval; (nan, nan) if there are too few units.
        unit: of the effect.
        runs: the number of runs it was computed from.
        note: what the units are, and the effect in each data set.
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
        """The effect with its unit; a dash if there are no runs."""
        return f"{_number(self.effect, self.unit)} {self.unit}" if self.runs else "–"

    @property
    def interval_text(self) -> str:
        """Both ends of the interval; a dash if it is unknown."""
        known = self.interval[0] == self.interval[0]  # not NaN
        return " to ".join(_number(end, self.unit) for end in self.interval) if known else "–"


def _number(value: float, unit: str) -> str:
    form = ".2f" if unit in (OF_SETTINGS, OF_PAIRS) else "+.3f" if abs(value) < 10 else "+.1f"
    return f"{value:{form}}".replace("-", "−")


def decide(interval: tuple[float, float], side: int = 1, tolerance: float | None = None) -> str:
    """Return the verdict that an interval leads to.

    Args:
        side: 1 if the claim is that the effect is above 0, −1 for below.
        tolerance: if given, the claim is that the effect is within ± this, whatever the side.

    >>> decide((0.1, 0.3)), decide((-0.1, 0.3)), decide((-0.3, -0.1)), decide((-0.3, -0.1), side=-1)
    ('holds', 'undecided here', 'fails', 'holds')
    """
    low, high = interval
    if tolerance is not None:
        if -tolerance <= low and high <= tolerance:
            return HOLDS
        return FAILS if low > tolerance or high < -tolerance else UNDECIDED
    if side < 0:
        low, high = -high, -low
    return HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED


def _means_by_data_set(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    grouped: dict[str, list[float]] = {}
    for data, value in values:
        grouped.setdefault(data, []).append(value)
    return {data: fmean(grouped[data]) for data in sorted(grouped)}


def by_data_set(values: Iterable[tuple[str, float]], unit: str) -> str:
    """Return the mean of each data set's values, in words.

    >>> by_data_set([("tone", 0.5), ("swap", 0.25), ("tone", 1.0)], LC)
    'swap +0.250, tone +0.750'
    """
    means = _means_by_data_set(values)
    return ", ".join(f"{data} {_number(mean, unit)}" for data, mean in means.items())


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
    """Return the verdict on the mean of `units`, each (data set, value), by Student's t interval.

    Args:
        side, tolerance: see `decide`.
        widen: multiplies the interval's half-width; see `selection.widening`.
    """
    if not units:
        nan = float("nan")
        return Verdict(claim, UNDECIDED, nan, (nan, nan), unit, 0, "no such runs in the results")
    estimate = Estimate.of([value for _, value in units])
    half_width = widen * estimate.half_width
    interval = (estimate.mean - half_width, estimate.mean + half_width)
    verdict = decide(interval, side, tolerance)
    furthest = max(abs(mean) for mean in _means_by_data_set(units).values())
    if tolerance is not None and verdict == HOLDS and furthest > tolerance:
        verdict = UNDECIDED  # alike on average only because data sets cancel out
    by_data = by_data_set(units, unit)
    return Verdict(claim, verdict, estimate.mean, interval, unit, runs, f"{note}; {by_data}")
