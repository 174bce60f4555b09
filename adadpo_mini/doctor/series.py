"""The series of numbers in a log."""

import math
import statistics
from collections.abc import Iterable, Sequence

from adadpo_mini.event import Event

Series = list[tuple[int, float]]
"""(step, value), in the order of the steps; finite values only."""

SIDES = ("chosen", "rejected")
LAST = 1 << 63  # no log has larger whole numbers


def is_finite(value: object) -> bool:
    """Return whether this is a finite number that fits into a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LAST


def series(events: Sequence[Event], *names: str, least: int = 1) -> Series:
    """Return the rows of the first name that has at least so many finite numbers; else none.

    >>> log = [{"step": 0, "loss": 0.7}, {"step": 1, "loss": None}, {"step": 2, "loss": 0.6}]
    >>> series(log, "eval_loss", "loss"), series(log, "loss", least=3)
    ([(0, 0.7), (2, 0.6)], [])
    """
    for name in names:
        rows = [(event["step"], event[name]) for event in events if is_finite(event.get(name))]
        if len(rows) >= least:
            return rows
    return []


def last_quarter(rows: Series) -> Series:
    """Return the last quarter of the rows, at least two."""
    return rows[-max(2, len(rows) // 4) :]


def mean(rows: Series) -> float:
    """Return the mean of the values."""
    return sum(value for _, value in rows) / len(rows)


def signed(nats: float) -> str:
    """Return a number with one decimal and a sign, for a sentence."""
    return f"{nats:+.1f}".replace("-", "−")


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)
