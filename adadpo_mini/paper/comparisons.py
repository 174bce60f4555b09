"""Comparing methods over a sweep's results: which runs belong together, and their differences.

`claims.py` and its neighbours say what is compared, claim by claim.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean

from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.verdict import Units

SETTING = ("data", "learning_rate", "beta")

Measure = Callable[[Row], float | None]
"""Reads a measurement from a row; None if it was not measured."""
Keep = Callable[[tuple, float], bool]
"""Whether a setting (data, learning rate, β) counts for a seed."""


def measure_of(column: str) -> Measure:
    """Return the measure that reads this column."""
    return lambda row: row[column]


lc_of, win_rate_of = measure_of("lc_win_rate"), measure_of("win_rate")


def lc_gap_of(row: Row) -> float | None:
    """Return the run's LC win rate minus its win rate, both at temperature 0.7."""
    known = row["lc_win_rate"] is not None and row["win_rate"] is not None
    return row["lc_win_rate"] - row["win_rate"] if known else None


def place_of(row: Row) -> tuple:
    """Return the run's data, learning rate, β and seed."""
    return tuple(row[name] for name in (*SETTING, "seed"))


def best_setting(
    rows: Sequence[Row], data: str, method: str, measure: Measure = lc_of
) -> tuple[float, float] | None:
    """Return the grid's learning rate and β at which a method's mean LC win rate is highest."""
    by_setting: dict[tuple, list[float]] = {}
    for row in closing_rows(rows, "grid", method):
        if row["data"] == data and measure(row) is not None:
            place = (row["learning_rate"], row["beta"])
            by_setting.setdefault(place, []).append(measure(row))
    return max(by_setting, key=lambda place: fmean(by_setting[place]), default=None)


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


def over_the_grid(
    rows: Sequence[Row],
    data: str,
    methods: tuple[str, str],
    measure: Measure,
    keep: Keep = lambda setting, seed: True,
    of: Callable[[float], float] = float,
) -> Units:
    """Return the first method minus the second over a data set's grid, by seed.

    Each run is paired with the other method's run of the same setting and seed; a seed's value is
    the mean over the settings. So the interval is about seeds: about another order of the pairs and
    other samples, on this grid.

    Args:
        keep: which settings count, for each seed.
        of: applied to each difference.
    """
    ours, theirs = (closing_rows(rows, "grid", method) for method in methods)
    found = paired_differences(ours, theirs, measure)
    kept = {
        setting: {seed: value for seed, value in seeds.items() if keep(setting, seed)}
        for setting, seeds in found.items()
        if setting[0] == data
    }
    settings = [seeds for seeds in kept.values() if seeds]
    every = sorted({seed for seeds in settings for seed in seeds})
    values = [fmean(of(seeds[seed]) for seeds in settings if seed in seeds) for seed in every]
    ties = [all(value == 0 for value in seeds.values()) for seeds in settings]
    return Units(values, ties=fmean(ties or [0]), note=_settings(len(settings)))


def _settings(count: int) -> str:
    return "no such setting" if not count else f"{count} setting{'s' * (count > 1)}"


def where_dpo_helps(rows: Sequence[Row], helps: bool = True) -> Keep:
    """Return which settings have DPO ahead of its own reference, or not ahead, on other seeds.

    Elsewhere one compares with a model that DPO has broken. A seed's own result does not count, or
    its luck would choose the settings.
    """
    by_setting: dict[tuple, dict[float, float]] = {}
    for row in closing_rows(rows, "grid", "dpo"):
        if row["win_rate"] is not None:
            by_setting.setdefault(place_of(row)[:-1], {})[row["seed"]] = row["win_rate"]

    def keep(setting: tuple, seed: float) -> bool:
        others = [rate for other, rate in by_setting.get(setting, {}).items() if other != seed]
        return bool(others) and (fmean(others) > 0.5) == helps

    return keep


def at_setting(rows: Iterable[Row], data: str, setting: tuple[float, float]) -> Iterator[Row]:
    """Yield the rows of a data set at a setting (learning rate, β)."""
    place = (data, *setting)
    return (row for row in rows if tuple(row[name] for name in SETTING) == place)
