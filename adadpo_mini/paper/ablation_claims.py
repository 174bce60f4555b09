"""What the AdaDPO paper claims about its ablations: the ceiling and the form of ρ.

An ablation has one setting for each data set, so the unit is the pair of data set and seed. The t
interval treats seeds as independent; they share only the base model.
"""

from collections.abc import Sequence
from statistics import fmean

from adadpo_mini.paper.comparisons import (
    ablation_rows,
    lc_of,
    paired_differences,
    place_of,
    seeds_note,
)
from adadpo_mini.paper.results import Row
from adadpo_mini.paper.selection import Options, picked_on_other_seeds, widening
from adadpo_mini.paper.verdict import LC, OF_PAIRS, Verdict, by_data_set, verdict_from


def ceiling_two_is_best(rows: Sequence[Row], experiment: str = "ceiling") -> Verdict:
    """Return the verdict on LC win rate at C = 2 against the best other ceiling of the data set.

    The rival is chosen on the other seeds, and the interval is widened for that.
    """
    options = _ceilings(rows, experiment)
    rivals = picked_on_other_seeds({place: _without_two(found) for place, found in options.items()})
    units = [(place[0], options[place][2.0] - rival) for place, rival in rivals.items()]
    note = f"{_pairs(len(units))}; mean by ceiling {_means_by_ceiling(options)}"
    note += _binding_note(rows, experiment) + seeds_note(rows, experiment)
    runs = sum(len(options[place]) for place in rivals)
    claim = f"C = 2 is the best ceiling: better than the best other one{_where(experiment)}"
    return verdict_from(claim, units, LC, runs, note, widen=widening(rivals))


def high_ceiling_is_worse(rows: Sequence[Row], experiment: str = "ceiling") -> Verdict:
    """Return the verdict on the mean LC win rate at ceilings from 5 up, minus that at C = 2."""
    units, runs = [], 0
    for place, choices in _ceilings(rows, experiment).items():
        high = [lc for ceiling, lc in choices.items() if ceiling >= 5]
        if high:
            units.append((place[0], fmean(high) - choices[2.0]))
            runs += len(high) + 1
    note = _pairs(len(units)) + _binding_note(rows, experiment) + seeds_note(rows, experiment)
    claim = f"C ≥ 5 is worse than C = 2{_where(experiment)}"
    return verdict_from(claim, units, LC, runs, note, side=-1)


def stable_beats_raw(rows: Sequence[Row]) -> Verdict:
    """Return the verdict on LC win rate with ρ from log-probs per token minus with ρ from sums."""
    form = ablation_rows(rows, "form")
    stable, raw = ([r for r in form if r["method"] == m] for m in ("adadpo", "adadpo_raw"))
    differences = paired_differences(stable, raw, lc_of)
    units = [(place[0], value) for place, seeds in differences.items() for value in seeds.values()]
    claim = "The stable form (per token) is better than the raw one"
    note = f"{_pairs(len(units))}{seeds_note(rows, 'form')}"
    return verdict_from(claim, units, LC, 2 * len(units), note)


def _pairs(count: int) -> str:
    return f"{count} pairs of data set and seed"


def _ceilings(rows: Sequence[Row], experiment: str) -> Options:
    """Return the LC win rate by place, then by ceiling; C = 2 is among them."""
    options: Options = {}
    for row in ablation_rows(rows, experiment):
        if row["method"] == "adadpo" and None not in (row["lc_win_rate"], row["ceiling"]):
            options.setdefault(place_of(row), {})[row["ceiling"]] = row["lc_win_rate"]
    return {place: choices for place, choices in options.items() if 2.0 in choices}


def _without_two(by_ceiling: dict[object, float]) -> dict[object, float]:
    return {ceiling: lc for ceiling, lc in by_ceiling.items() if ceiling != 2.0}


def _means_by_ceiling(options: Options) -> str:
    by_ceiling: dict[object, list[float]] = {}
    for choices in options.values():
        for ceiling, lc in choices.items():
            by_ceiling.setdefault(ceiling, []).append(lc)
    return ", ".join(f"{c:g}: {fmean(by_ceiling[c]):.2f}" for c in sorted(by_ceiling))


def _where(experiment: str) -> str:
    at_defaults = experiment == "ceiling_at_defaults"
    return ", at the default learning rate and β" if at_defaults else ", at AdaDPO's best setting"


def _binding_note(rows: Sequence[Row], experiment: str) -> str:
    """Return how many pairs the ceiling of 2 touches; if none, a higher one is the same."""
    shares = [
        (row["data"], row["ceiling_share"])
        for row in ablation_rows(rows, experiment)
        if row["ceiling"] == 2.0 and row["ceiling_share"] is not None
    ]
    by_data = by_data_set(shares, OF_PAIRS)
    return f"; share of pairs at the ceiling of 2 after training: {by_data}" if shares else ""
