"""What the AdaDPO paper claims about its ablations: the ceiling and the form of ρ."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean

from adadpo_mini.paper.claims import LC, RATIO, Claim
from adadpo_mini.paper.comparisons import Measure, paired_differences, place_of
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.selection import Options, picked_on_other_seeds, widening
from adadpo_mini.paper.verdict import Units

DEFAULTS = {"ceiling": 2.0, "k": 1.0, "floor": None}
WITH_DEFAULTS = ("controls", "default")
"""The experiments with runs of AdaDPO whose knobs have their defaults."""
CEILINGS = {
    "ceiling": "at AdaDPO's best setting",
    "ceiling_too_hard": "at the setting too hard for DPO",
}


def ablation_rows(rows: Sequence[Row], experiment: str) -> list[Row]:
    """Return the closing rows of an ablation, and AdaDPO's with its defaults at the same places."""
    own = closing_rows(rows, experiment)
    places = {place_of(row) for row in own}
    for other in WITH_DEFAULTS:
        for row in closing_rows(rows, other, RATIO):
            is_default = all(row[knob] == default for knob, default in DEFAULTS.items())
            if is_default and place_of(row) in places:
                own.append(row)
                places.discard(place_of(row))
    return own


def ceiling_two_is_best(
    rows: Sequence[Row], data: str, _: str, measure: Measure, *, experiment: str
) -> Units:
    """Return C = 2 minus the best other ceiling, which is chosen on the other seeds."""
    options = _ceilings(rows, data, experiment, measure)
    rivals = picked_on_other_seeds({place: _without_two(found) for place, found in options.items()})
    values = [options[place][2.0] - rival for place, rival in rivals.items()]
    binds = _reached(rows, data, experiment, lambda ceiling: True)
    return _about_ceilings(values, binds, widening(rivals))


def high_ceiling_is_worse(
    rows: Sequence[Row], data: str, _: str, measure: Measure, *, experiment: str
) -> Units:
    """Return the mean over the ceilings from 5 up, minus C = 2."""
    values = [
        fmean(value for ceiling, value in choices.items() if ceiling >= 5) - choices[2.0]
        for choices in _ceilings(rows, data, experiment, measure).values()
        if max(choices) >= 5
    ]
    binds = _reached(rows, data, experiment, lambda ceiling: ceiling == 2)
    return _about_ceilings(values, binds)


def _about_ceilings(values: list[float], reached: float, widen: float = 1.0) -> Units:
    if not values:
        return Units(values)
    note = f"{reached:.0%} of pairs at the ceiling"
    return Units.of(values, applies=reached > 0, widen=widen, note=note)


def _reached(
    rows: Sequence[Row], data: str, experiment: str, counts: Callable[[float], bool]
) -> float:
    """Return the share of pairs at the ceiling after training, for the lowest such ceiling."""
    shares: dict[float, list[float]] = {}
    for row in _own(rows, data, experiment):
        if row["ceiling_share"] is not None and counts(row["ceiling"]):
            shares.setdefault(row["ceiling"], []).append(row["ceiling_share"])
    return fmean(shares[min(shares)]) if shares else 0.0


def _own(rows: Sequence[Row], data: str, experiment: str) -> Iterable[Row]:
    return (row for row in ablation_rows(rows, experiment) if row["data"] == data)


def _ceilings(rows: Sequence[Row], data: str, experiment: str, measure: Measure) -> Options:
    """Return the measure by place, then by ceiling; C = 2 is among them."""
    options: Options = {}
    for row in _own(rows, data, experiment):
        if (value := measure(row)) is not None and row["ceiling"] is not None:
            options.setdefault(place_of(row), {})[row["ceiling"]] = value
    return {place: choices for place, choices in options.items() if 2.0 in choices}


def _without_two(by_ceiling: dict[object, float]) -> dict[object, float]:
    return {ceiling: value for ceiling, value in by_ceiling.items() if ceiling != 2.0}


def stable_minus_raw(rows: Sequence[Row], data: str, _: str, measure: Measure) -> Units:
    """Return ρ from log-probs per token minus ρ from sums."""
    form = list(_own(rows, data, "form"))
    stable, raw = ([r for r in form if r["method"] == m] for m in (RATIO, "adadpo_raw"))
    differences = paired_differences(stable, raw, measure)
    return Units.of([value for seeds in differences.values() for value in seeds.values()])


ABLATIONS = (
    *(
        Claim(
            f"{title}, {where}",
            "LC win rate",
            partial(units, experiment=experiment),
            LC,
            side=side,
            spaces=(RATIO,),
        )
        for experiment, where in CEILINGS.items()
        for title, units, side in (
            ("C = 2 is the best ceiling", ceiling_two_is_best, 1),
            ("C ≥ 5 is worse than C = 2", high_ceiling_is_worse, -1),
        )
    ),
    Claim(
        "The stable form (per token) is better than the raw one",
        "LC win rate",
        stable_minus_raw,
        LC,
        spaces=(RATIO,),
    ),
)
"""The claims about ablations. The paper varies the ceiling from 1.5 to 10, and 2 is its best."""
