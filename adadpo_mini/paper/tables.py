"""Tables for documents: a sweep's results in Markdown, written between two markers."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.paper.results import Estimate, Row, closing_rows, read_measurements
from adadpo_mini.system.files import replace_text


def sets_table(path: Path) -> str:
    """Two Markdown tables, set by method, each cell a mean over seeds with its 95 % interval.

    The first is Δchosen / Δrejected in nats, the second the win rate against the reference.

    Raises:
        InputError: the file is no sweep's, its runs do not make one table, or something was not
            measured.
    """
    rows = closing_rows(read_measurements(path), "sets")
    caption = _caption(rows, path)

    def estimate(name: str, method: str, column: str) -> Estimate:
        mine = [row for row in rows if row["data"] == name and row["method"] == method]
        values = [row[column] for row in mine]
        if None in values:
            raise InputError(
                f"{path}: a run of {method} on {name} has no {column}; take its rows out, and "
                "`adadpo-mini sweep sets` runs it again."
            )
        return Estimate.of(values)

    def shifts(name: str, method: str) -> str:
        sides = ("shift_chosen", "shift_rejected")
        return " / ".join(estimate(name, method, side).text() for side in sides)

    def win_rate(name: str, method: str) -> str:
        return estimate(name, method, "win_rate").text(".2f")

    tables = (_grid(rows, "Δchosen / Δrejected", shifts), _grid(rows, "win rate", win_rate))
    return "\n".join([*tables[0], "", *tables[1], "", caption])


def _caption(rows: Sequence[Row], path: Path) -> str:
    """What was run; raises InputError unless every set and method has runs of the same kind."""
    settings = {
        tuple(row[name] for name in ("steps", "batch_size", "beta", "learning_rate"))
        for row in rows
    }
    counts = Counter((row["data"], row["method"]) for row in rows)
    whole = len({data for data, _ in counts}) * len({method for _, method in counts})
    if len(settings) != 1 or len(counts) != whole or len(set(counts.values())) != 1:
        raise InputError(
            f"{path}: its runs differ in settings, or some are missing; finish "
            "`adadpo-mini sweep sets`, or start it anew in another file."
        )
    [(steps, batch_size, beta, learning_rate)] = settings
    return (
        f"{steps:.0f} steps of {batch_size:.0f} pairs, β = {beta:g}, learning rate "
        f"{learning_rate:g}, {min(counts.values())} seeds (of the pairs' order and of the "
        "sampled answers). Δ: change of the mean log-prob of held-out completions against the "
        "reference, nats per completion. Win rate: against the reference's answers to held-out "
        "prompts, by the exact judge, ties count half. Both on the first 32 held-out pairs. "
        "All: mean ± half of the 95 % t interval over seeds; it says nothing of other prompts "
        "or another base model."
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

    All else, line endings included, stays as it is. The document is replaced as a whole.

    Raises:
        InputError: the document cannot be read, or has not each marker once, in this order.
            WriteError: it cannot be written; it is as it was.
    """
    with _one_at_a_time(Path(os.path.realpath(document)).parent):
        content = _read_document(document)
        replace_text(document, _put_between(content, name, text, document))


def _put_between(content: str, name: str, text: str, document: Path) -> str:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    counts = [content.count(marker) for marker in (begin, end)]
    if 0 in counts:
        raise InputError(f"{document}: lacks the lines {begin} and {end}; add them.")
    if counts != [1, 1] or content.index(begin) > content.index(end):
        raise InputError(f"{document}: must have {begin} once, and then {end} once; mend that.")
    before, _, rest = content.partition(begin)
    _, _, after = rest.partition(end)
    line_end = "\r\n" if rest.startswith("\r\n") else "\n"
    inner = line_end.join(["", *text.split("\n"), ""])
    return f"{before}{begin}{inner}{end}{after}"


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let processes that write into documents of a folder take turns, so that none undoes what
    another has written; on Windows they do not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # on Windows always
        yield
        return
    import fcntl

    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_document(document: Path) -> str:
    """Its text, line endings as they are."""
    try:
        if document.is_dir():
            raise InputError(f"{document}: is a folder; give a document.")
        if not document.is_file():
            raise InputError(f"{document}: there is no such document.")
        return document.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{document}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{document}: is not UTF-8; save it as that.") from error
