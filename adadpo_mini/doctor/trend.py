"""Has a noisy series left zero? A test for rewards that are logged on different pairs each time.

At the first update policy and reference are the same model, so every reward starts at exactly 0.
The question is therefore not "is the last line lower than the first?", which is mostly about which
pairs were drawn, but "do all lines together lie below 0?".

The series is compared with a few shapes s(t) that go from 0 to 1: a straight line, an early fall
with a plateau, a late fall. For each shape, least squares through zero estimates how far the series
has come, a = Σ s·y / Σ s², and t = a / SE(a) says whether that is more than noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # lines without which no trend is judged
# One-sided error rates. In all, a series of pure noise is called falling in fewer than 1 of 100.
LINE_ERROR, OTHER_ERROR = 0.006, 0.002
MOST_LINKED = 0.8  # what a shape leaves over looks linked, too
CLEARLY = 2.0  # standard errors


@dataclass(frozen=True)
class Trend:
    """Where a series that began at 0 has come.

    Attributes:
        end: the value at the last line as estimated from all lines.
        t: the estimate in units of its standard error.
        sign: −1 or 1 if the series has left 0 beyond noise, else 0.
        last, last_error: mean of the last quarter of the lines, and its standard error.
        lines: the number of lines.
    """

    end: float
    t: float
    sign: int
    last: float
    last_error: float
    lines: int

    def passed(self, bound: float) -> bool:
        """Return whether the series has come to `bound`, a positive or negative value.

        It must have left 0 beyond noise, the estimate must be beyond the bound, and the last
        quarter must not say otherwise: a series that came back has not passed.
        """
        way = 1 if bound > 0 else -1
        back = way * self.last <= 0 or way * (bound - self.last) > CLEARLY * self.last_error
        return self.sign == way and way * (self.end - bound) >= 0 and not back


def trend(values: Sequence[float], at: Sequence[float]) -> Trend | None:
    """Return the trend of a series, or None if it has fewer than three lines.

    Args:
        values: finite numbers.
        at: their steps, ascending.
    """
    if len(values) < FEWEST:
        return None
    y, steps = np.asarray(values, float), np.asarray(at, float)
    fits = [_fit(y, shape, i) for i, shape in enumerate(_shapes(steps / steps[-1]))]
    end, t, limit = max(fits, key=lambda fit: abs(fit[1]) / fit[2])
    last = y[-max(2, len(y) // 4) :]
    error = _noise(y) / np.sqrt(len(last))
    sign = int(np.sign(end)) if abs(t) > limit else 0
    return Trend(float(end), float(t), sign, float(last.mean()), float(error), len(y))


def _shapes(t: np.ndarray) -> list[np.ndarray]:
    """Return shapes over the time t in [0, 1] that end at 1; the straight line comes first."""
    late = [np.clip((t - start) / (1 - start), 0, 1) for start in (0.5, 0.75)]
    early = [np.clip(t / end, 0, 1) for end in (0.25, 0.5)]
    return [t, np.ones_like(t), *early, *late]


def _noise(y: np.ndarray) -> float:
    """Return the standard deviation of the noise from differences of neighbours.

    A trend hardly changes them."""
    return float(np.sqrt(np.mean(np.diff(y) ** 2) / 2))


def _linked(rest: np.ndarray) -> float:
    """Return how much larger errors are because neighbouring lines resemble each other.

    With a correlation r of neighbours n lines count as n·(1 − r)/(1 + r); a small r is chance.
    """
    before, after = rest[:-1], rest[1:]
    size = (rest**2).sum()
    r = (before * after).sum() / size - 1 / np.sqrt(len(rest)) if size else 0.0
    r = float(np.clip(r, 0, MOST_LINKED))
    return float(np.sqrt((1 + r) / (1 - r)))


def _fit(y: np.ndarray, shape: np.ndarray, which: int) -> tuple[float, float, float]:
    """Return (amplitude, t, the t that noise alone rarely reaches).

    The standard error is the largest of three: from neighbours, from what the shape leaves over,
    and from what it leaves over where the shape is large, as noise grows while a policy moves.
    """
    from scipy.special import stdtrit  # ships with statsmodels

    weight = (shape**2).sum()
    amplitude = (shape * y).sum() / weight
    rest = y - amplitude * shape
    freedom = len(y) - 1
    variance = max(_noise(y) ** 2, (rest**2).sum() / freedom) / weight
    local = (shape**2 * rest**2).sum() / weight**2 * len(y) / freedom
    error = max(np.sqrt(max(variance, local)) * _linked(rest), 1e-12)
    limit = stdtrit(freedom, 1 - (LINE_ERROR if which == 0 else OTHER_ERROR))
    return amplitude, amplitude / error, float(limit)
