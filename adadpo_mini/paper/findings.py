"""The verdicts of a sweep in sentences: on which sets AdaDPO is better, worse, or neither."""

from collections.abc import Iterable, Sequence

from adadpo_mini.paper.claims import CLAIMS, POLICY, RATIO, Claim, data_sets
from adadpo_mini.paper.control_claims import CONTROLS
from adadpo_mini.paper.results import Row
from adadpo_mini.paper.verdict import FAILS, HOLDS, NO_DIFFERENCE, NOT_RUN, UNDECIDED

WORDS = {
    HOLDS: "better on {}",
    FAILS: "worse on {}",
    UNDECIDED: "not told apart on {}",
    NO_DIFFERENCE: "equal on {}",
    NOT_RUN: "without such a setting on {}",
}
"""How a verdict on AdaDPO against a rival is said, in this order."""
ALL = {UNDECIDED: "any set", NOT_RUN: "any set"}
"""What follows "on" if all sets have this verdict; by default "every set"."""
COLD, WARM = "T 0.7", "T 1"
AGAINST_DPO = {
    "At equal settings, against DPO": CLAIMS[0],
    "Only where DPO beats its own reference": CLAIMS[1],
    "Only where DPO does not": CLAIMS[2],
    "Each at its own best setting": CLAIMS[3],
}


def findings(rows: Sequence[Row]) -> str:
    """Return the findings as a Markdown list; AdaDPO is the subject of each."""
    lines = [f"- {title}: {both_spaces(claim, rows)}" for title, claim in AGAINST_DPO.items()]
    for where, claims in CONTROLS.items():
        lines += ["", f"{where[0].upper()}{where[1:]}:", ""]
        lines += [_line(claim, rows) for claim in claims]
    return "\n".join(lines)


def _line(claim: Claim, rows: Sequence[Row]) -> str:
    title = claim.title.replace("Beats", "Against").replace("beats", "against")
    return f"- {title}: {both_spaces(claim, rows)}"


def both_spaces(claim: Claim, rows: Sequence[Row]) -> str:
    """Return where AdaDPO is better in ratio space, and in policy space if that differs."""
    if POLICY not in claim.spaces:
        return f"{both_temperatures(claim, rows)}."
    ratio, policy = (both_temperatures(claim, rows, method) for method in (RATIO, POLICY))
    return f"{ratio}. Policy space: {'the same' if ratio == policy else policy}."


def both_temperatures(claim: Claim, rows: Sequence[Row], method: str = RATIO) -> str:
    """Return where AdaDPO is better at temperature 0.7, and at 1 if that differs."""
    cold, warm = (standing(claim, rows, method, measure) for measure in (COLD, WARM))
    return cold if cold == warm else f"{cold} (T 1: {warm})"


def standing(claim: Claim, rows: Sequence[Row], method: str = RATIO, measure: str = COLD) -> str:
    """Return on which sets AdaDPO is better, worse and so on, in words."""
    found: dict[str, list[str]] = {}
    every = data_sets(rows)
    for name in every:
        verdict = claim.verdicts(rows, name, method)[measure].verdict
        found.setdefault(verdict, []).append(name)
    where = {
        verdict: ALL.get(verdict, "every set") if names == every else _names(names)
        for verdict, names in found.items()
    }
    return ", ".join(words.format(where[v]) for v, words in WORDS.items() if v in where)


def _names(names: Iterable[str]) -> str:
    """Return names as a list in words.

    >>> _names(["tone", "swap", "refusal"])
    '`tone`, `swap` and `refusal`'
    """
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last
