"""What the AdaDPO paper claims, tested over the grid of a sweep: a verdict for each data set.

Statistics and nothing else: `planned.py` measures, `tables.py` and `report.py` show. The controls
are tested in `control_claims.py`, the ablations in `ablation_claims.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adadpo_mini.paper.comparisons import (
    Measure,
    lc_gap_of,
    measure_of,
    over_the_grid,
    where_dpo_helps,
)
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.selection import Options, picked_on_other_seeds, widening
from adadpo_mini.paper.verdict import TOLERANCE, Units, Verdict, verdict_on

RATIO, POLICY = "adadpo", "adadpo_policy"
SPACES = {RATIO: "ratio", POLICY: "policy"}
LC = {"T 0.7": measure_of("lc_win_rate"), "T 1": measure_of("lc_win_rate_at_1")}
"""The LC win rate, at both temperatures."""


@dataclass(frozen=True)
class Claim:
    """A statement that a sweep can confirm or refute.

    Attributes:
        title: the statement.
        unit: of the effect.
        units: (rows, data, method, measure) → the effect by seed, where method is AdaDPO in one of
            its spaces.
        measures: what is compared, by what to write before its verdict.
        side, tolerance: see `verdict.decide`.
        spaces: the methods it is tested for.
    """

    title: str
    unit: str
    units: Callable[[Sequence[Row], str, str, Measure], Units]
    measures: Mapping[str, Measure]
    side: int = 1
    tolerance: float | None = None
    spaces: Sequence[str] = tuple(SPACES)

    def verdicts(self, rows: Sequence[Row], data: str, method: str) -> dict[str, Verdict]:
        """Return the verdict for each measure."""
        return {
            name: verdict_on(self.units(rows, data, method, measure), self.side, self.tolerance)
            for name, measure in self.measures.items()
        }


def equal_settings(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Units:
    """Return AdaDPO minus DPO, the mean over all settings."""
    return over_the_grid(rows, data, (method, "dpo"), measure)


def where_it_helps(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Units:
    """Return AdaDPO minus DPO, over the settings in which DPO beats its own reference."""
    return over_the_grid(rows, data, (method, "dpo"), measure, where_dpo_helps(rows))


def where_it_breaks(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Units:
    """Return AdaDPO minus DPO, over the settings in which DPO does not beat its reference."""
    return over_the_grid(rows, data, (method, "dpo"), measure, where_dpo_helps(rows, False))


def share_of_settings(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Units:
    """Return the share of settings in which AdaDPO is ahead minus that in which it is behind."""

    def sign(difference: float) -> float:
        return float((difference > 0) - (difference < 0))

    return over_the_grid(rows, data, (method, "dpo"), measure, of=sign)


def each_at_its_best(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Units:
    """Return AdaDPO minus DPO, each at its own best learning rate and β.

    For each seed, either method's best setting is chosen on the *other* seeds, so a lucky run
    flatters neither. The interval is widened for that, see `widening`.
    """
    options = {name: _options(rows, data, name, measure) for name in (method, "dpo")}
    picked = {name: picked_on_other_seeds(table) for name, table in options.items()}
    places = [place for place in picked[method] if place in picked["dpo"]]
    values = [picked[method][place] - picked["dpo"][place] for place in places]
    return Units.of(values, widen=widening(places))


def _options(rows: Sequence[Row], data: str, method: str, measure: Measure) -> Options:
    """Return the measure by (data, seed), then by (learning rate, β)."""
    options: Options = {}
    for row in closing_rows(rows, "grid", method):
        if row["data"] == data and (value := measure(row)) is not None:
            choices = options.setdefault((data, row["seed"]), {})
            choices[row["learning_rate"], row["beta"]] = value
    return options


def ratio_minus_policy(rows: Sequence[Row], data: str, _: str, measure: Measure) -> Units:
    """Return ratio space minus policy space, the mean over all settings."""
    return over_the_grid(rows, data, (RATIO, POLICY), measure)


CLAIMS = (
    Claim("Beats DPO at equal settings", "LC win rate", equal_settings, LC),
    Claim("… only where DPO beats its own reference", "LC win rate", where_it_helps, LC),
    Claim("… only where DPO does not", "LC win rate", where_it_breaks, LC),
    Claim("Beats DPO, each at its own best setting", "LC win rate", each_at_its_best, LC),
    Claim(
        "Ahead of DPO in most settings (the paper: 13 of 16)",
        "share of settings ahead minus behind",
        share_of_settings,
        LC,
    ),
    Claim(
        "Larger LC − WR gap than DPO (the paper: 14 of 16)",
        "LC win rate − win rate, T 0.7",
        equal_settings,
        {"": lc_gap_of},
    ),
    Claim(
        "Better held-out accuracy than DPO",
        "share of pairs",
        equal_settings,
        {"": measure_of("accuracy")},
    ),
    Claim(
        "Better held-out ranking accuracy than DPO",
        "share of pairs",
        equal_settings,
        {"": measure_of("ranking_accuracy")},
    ),
    Claim("Larger reward margin than DPO", "β·nats", equal_settings, {"": measure_of("margin")}),
    Claim(
        "Lower KL to the reference than DPO, after equally many steps",
        "nats per completion",
        equal_settings,
        {"": measure_of("kl")},
        side=-1,
    ),
    Claim(
        f"Ratio and policy space are alike (within ±{TOLERANCE:g})",
        "LC win rate, ratio minus policy",
        ratio_minus_policy,
        LC,
        tolerance=TOLERANCE,
        spaces=(RATIO,),
    ),
)
"""The claims tested over the grid. The abstract names the curves of margin and KL but not their
direction; larger and lower is our reading."""


def data_sets(rows: Sequence[Row], experiment: str = "grid") -> list[str]:
    """Return the data sets of an experiment, in the order of their first rows."""
    return list(dict.fromkeys(row["data"] for row in rows if row["experiment"] == experiment))
