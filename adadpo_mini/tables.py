"""Tables for documents: a sweep's results in Markdown, written between two markers."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.results import Estimate, Row, closing_rows, read_measurements


def sets_table(path: Path) -> str:
    """Two Markdown tables, set by method, each cell a mean over seeds with its 95 % interval.

    The first is Δchosen / Δrejected in nats, the second the win rate against the reference.

    Raises:
        InputError: the file is no sweep's, or its runs do not make one table.
    """
    rows = closing_rows(read_measurements(path), "sets")
    settings = {
        tuple(row[name] for name in ("steps", "batch_size", "beta", "learning_rate"))
        for row in rows
    }
    counts = {(row["data"], row["method"]): 0 for row in rows}
    for row in rows:
        counts[row["data"], row["method"]] += 1
    whole = len({data for data, _ in counts}) * len({method for _, method in counts})
    if len(settings) != 1 or len(counts) != whole or len(set(counts.values())) != 1:
        raise InputError(
            f"{path}: its runs differ in settings, or some are missing; finish "
            "`adadpo-mini sweep sets`, or start it anew in another file."
        )

    def estimate(name: str, method: str, column: str) -> Estimate:
        mine = [row for row in rows if row["data"] == name and row["method"] == method]
        return Estimate.of([row[column] for row in mine])

    def shifts(name: str, method: str) -> str:
        sides = ("shift_chosen", "shift_rejected")
        return " / ".join(estimate(name, method, side).text() for side in sides)

    def win_rate(name: str, method: str) -> str:
        return estimate(name, method, "win_rate").text(".2f")

    [(steps, batch_size, beta, learning_rate)] = settings
    return "\n".join(
        [
            *_grid(rows, "Δchosen / Δrejected", shifts),
            "",
            *_grid(rows, "win rate", win_rate),
            "",
            f"{steps:.0f} steps of {batch_size:.0f} pairs, β = {beta:g}, learning rate "
            f"{learning_rate:g}, {min(counts.values())} seeds (of the pairs' order and of the "
            "sampled answers). Δ: change of the mean log-prob of held-out completions against the "
            "reference, nats per completion. Win rate: against the reference's answers to held-out "
            "prompts, by the exact judge, ties count half. Both on the first 32 held-out pairs. "
            "All: mean ± half of the 95 % t interval over seeds; it says nothing of other prompts "
            "or another base model.",
        ]
    )


def _grid(rows: Sequence[Row], what: str, cell: Callable[[str, str], str]) -> list[str]:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = sorted({row["data"] for row in rows})
    return [
        f"| {what} | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
        *(f"| `{name}` | " + " | ".join(cell(name, m) for m in methods) + " |" for name in names),
    ]


def write_between(document: Path, name: str, text: str) -> None:
    """Replace what stands between the lines <!-- name:begin --> and <!-- name:end -->.

    Raises:
        InputError: there is no such document, or it lacks the markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if not document.is_file():
        raise InputError(f"{document}: there is no such document.")
    content = document.read_text(encoding="utf-8")
    if begin not in content or end not in content:
        raise InputError(f"{document}: lacks the lines {begin} and {end}; add them.")
    before, after = content.split(begin)[0], content.split(end)[1]
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8", newline="\n")
