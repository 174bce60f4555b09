"""95 % intervals: Student's for a mean, Wilson's for a share."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

# scipy and statsmodels are imported where they are used, since that takes more than a second.


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, mean ± half_width.

    Attributes:
        mean: the mean of the values.
        half_width: half the width of the interval; NaN for a single value.
        count: the number of values.
    """

    mean: float
    half_width: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Return Student's t interval: mean ± t(0.975, n − 1)·s/√n.

        Written out, because `scipy.stats.t.interval` returns NaN if all values are equal.

        >>> Estimate.of([1.0, 2.0, 3.0])
        Estimate(mean=2.0, half_width=2.484..., count=3)
        """
        from scipy.stats import t

        count = len(values)
        if count < 2:
            return cls(fmean(values), float("nan"), count)
        standard_error = stdev(values) / count**0.5
        return cls(fmean(values), float(t.ppf(0.975, count - 1)) * standard_error, count)

    def text(self, form: str = "+.1f") -> str:
        """Return the estimate in words.

        >>> Estimate(-1.26, 0.5, 3).text(), Estimate.of([1.0]).text()
        ('−1.3 ± 0.5', '+1.0 (one seed)')
        """
        spread = f" ± {self.half_width:{form.lstrip('+')}}" if self.count > 1 else " (one seed)"
        return f"{self.mean:{form}}{spread}".replace("-", "−")


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval for a share of `count`.

    >>> tuple(round(end, 3) for end in wilson_interval(0.5, 10))
    (0.237, 0.763)
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * count, count, alpha=0.05, method="wilson")
    return float(low), float(high)
