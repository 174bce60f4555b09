"""The quantities in the report's figures, and how their numbers are written."""

from dataclasses import dataclass, replace
from decimal import Decimal

from adadpo_mini.paper.comparisons import Measure, measure_of


@dataclass(frozen=True)
class Quantity:
    """A measurement at the end of a run, and how it is shown.

    Attributes:
        title: what it is.
        unit: its unit; "" for shares.
        measure: reads it from a row.
        form: the format of its numbers.
        middle: the value with the neutral colour.
        reach: how far from the middle the colours go; None means that the data decides.
    """

    title: str
    unit: str
    measure: Measure
    form: str
    middle: float
    reach: float | None

    def text(self, value: float) -> str:
        """Return the number as it is shown: a real minus sign, and none before a zero.

        >>> LC.difference.text(-0.314), LC.difference.text(-0.001)
        ('−0.31', '0.00')
        """
        text = f"{value:{self.form}}".replace("-", "−")
        return text if text.strip("+−0.") else text.lstrip("+−")

    def spread_text(self, half_width: float) -> str:
        """Return half of an interval, in the same format but without a sign.

        >>> SHIFT.spread_text(2.04)
        '2.0'
        """
        return f"{half_width:{self.form.lstrip('+')}}"

    @property
    def difference(self) -> "Quantity":
        """The same quantity for differences between two methods: signed, and neutral at 0."""
        return replace(self, form=f"+{self.form.lstrip('+')}", middle=0, reach=None)


LC = Quantity("LC win rate, T 0.7", "", measure_of("lc_win_rate"), ".2f", 0.5, 0.5)
LC_AT_1 = Quantity("LC win rate, T 1", "", measure_of("lc_win_rate_at_1"), ".2f", 0.5, 0.5)
WIN_RATE = Quantity("win rate, T 0.7", "", measure_of("win_rate"), ".2f", 0.5, 0.5)
WIN_RATE_AT_1 = Quantity("win rate, T 1", "", measure_of("win_rate_at_1"), ".2f", 0.5, 0.5)
SHIFT = Quantity("Δchosen", "nats per completion", measure_of("shift_chosen"), "+.1f", 0, None)
CEILING_SHARE = Quantity(
    "share of pairs at the ceiling", "", measure_of("ceiling_share"), ".2f", 0.5, 0.5
)


def rate_text(learning_rate: float) -> str:
    """Return a learning rate, short enough for an axis.

    >>> rate_text(2e-4), rate_text(1.5e-5)
    ('2e−4', '1.5e−5')
    """
    return f"{Decimal(repr(learning_rate)):e}".replace("-", "−")
