"""A verdict on a claim, for one data set: it follows from the 95 % interval of an effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from adadpo_mini.paper.intervals import Estimate

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided here"
NO_DIFFERENCE, NOT_APPLICABLE = "no difference", "not applicable"
NOT_RUN = "not run"
TOLERANCE = 0.05
"""Two LC win rates this close are "nearly alike"; the paper's AdaDPO and DPO are 0.019 apart."""


@dataclass(frozen=True)
class Units:
    """What a verdict is computed from.

    Attributes:
        values: the effect by seed, each already averaged over settings.
        ties: the share of the compared settings, or of the runs, without any difference.
        applies: False if the claim is about something that never happens in these runs.
        widen: multiplies the interval's half-width; see `selection.widening`.
        note: what the reader should know about the runs, such as how many settings there are.
    """

    values: Sequence[float]
    ties: float = 0.0
    applies: bool = True
    widen: float = 1.0
    note: str = ""

    @classmethod
    def of(cls, values: Sequence[float], **more: object) -> "Units":
        """Make units of one run per seed, and count the ties among them.

        >>> Units.of([0.0, 0.0, 0.3]).ties
        0.66...
        """
        return cls(values, ties=sum(value == 0 for value in values) / max(1, len(values)), **more)


@dataclass(frozen=True)
class Verdict:
    """A sweep's verdict on one claim, on one data set.

    Attributes:
        verdict: "holds" if the interval lies entirely on the claimed side, "fails" if entirely on
            the other, else "undecided here"; "no difference" if most of what is compared ties;
            "not applicable" if the claim is about something that never happens in these runs; "not
            run" if there are no runs. A claim that two things are alike holds if the interval lies
            within ±`TOLERANCE`, and fails if it lies entirely outside.
        effect: the mean over seeds.
        interval: its 95 % t interval over seeds; (nan, nan) if there are too few.
        seeds: their number.
        note: what the reader should know about the runs.
    """

    verdict: str
    effect: float
    interval: tuple[float, float]
    seeds: int
    note: str = ""

    @property
    def text(self) -> str:
        """The verdict in a table: with effect and interval, and the note.

        >>> Verdict("holds", 0.21, (0.11, 0.31), 5, "9 settings").text
        '**holds** +0.21 (+0.11 to +0.31), 9 settings'
        """
        return f"**{self.verdict}**{self.details}"

    @property
    def details(self) -> str:
        """What follows the verdict in `text`."""
        note = f", {self.note}" if self.note else ""
        if self.verdict in (NOT_APPLICABLE, NOT_RUN):
            return note
        low, high = self.interval
        ends = f" ({number(low)} to {number(high)})" if low == low else " (one seed)"  # not NaN
        return f" {number(self.effect)}{ends}{note}"


def number(value: float) -> str:
    """Return a signed number with two decimals, or one from 10 on.

    >>> number(-0.304), number(12.34), number(-0.001)
    ('−0.30', '+12.3', '0.00')
    """
    text = f"{value:+.2f}" if abs(value) < 9.995 else f"{value:+.1f}"
    return text.replace("-", "−") if text.strip("+-0.") else text[1:]


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


def verdict_on(units: Units, side: int = 1, tolerance: float | None = None) -> Verdict:
    """Return the verdict on the mean over seeds, by Student's t interval.

    Args:
        side, tolerance: see `decide`.
    """
    nan = float("nan")
    if not units.applies:
        return Verdict(NOT_APPLICABLE, nan, (nan, nan), len(units.values), units.note)
    if not units.values:
        return Verdict(NOT_RUN, nan, (nan, nan), 0, units.note)
    estimate = Estimate.of(units.values)
    half_width = units.widen * estimate.half_width
    interval = (estimate.mean - half_width, estimate.mean + half_width)
    verdict = decide(interval, side, tolerance)
    if tolerance is None and units.ties > 0.5:
        verdict = NO_DIFFERENCE
    return Verdict(verdict, fmean(units.values), interval, estimate.count, units.note)
