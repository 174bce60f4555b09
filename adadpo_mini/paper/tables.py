"""Tables for documents: a sweep's results in Markdown, written between two markers."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.results import Row, closing_rows, read_measurements
from adadpo_mini.system.files import replace_text
from adadpo_mini.system.markdown import markdown_table


def sets_table(path: Path) -> str:
    """Return two Markdown tables, set by method.

    Each cell is a mean over seeds with its 95 % interval. The first table is Δchosen /
    Δrejected in nats, the second the win rate against the reference.

    Raises:
        InputError: the file is not a sweep's, its runs do not make one table, or a value is
            missing.
    """
    rows = closing_rows(read_measurements(path), "sets")
    caption = _caption(rows, path)

    def shifts(name: str, method: str) -> str:
        sides = ("shift_chosen", "shift_rejected")
        return " / ".join(_estimate(rows, path, name, method, side).text() for side in sides)

    def win_rate(name: str, method: str) -> str:
        return _estimate(rows, path, name, method, "win_rate").text(".2f")

    shift_table = _set_by_method(rows, "Δchosen / Δrejected", shifts)
    return "\n\n".join([shift_table, _set_by_method(rows, "win rate", win_rate), caption])


def _estimate(rows: Sequence[Row], path: Path, name: str, method: str, column: str) -> Estimate:
    """Return the mean of a column over a method's runs on a set."""
    values = [row[column] for row in rows if (row["data"], row["method"]) == (name, method)]
    if None in values:
        raise InputError(
            f"{path}: a run of {method} on {name} has no {column}; remove its rows, and "
            "`adadpo-mini sweep sets` runs it again."
        )
    return Estimate.of(values)


def _caption(rows: Sequence[Row], path: Path) -> str:
    """Return what was run.

    Raises:
        InputError: a set or a method does not have runs of the same kind as the others.
    """
    settings = {
        tuple(row[name] for name in ("steps", "batch_size", "beta", "learning_rate"))
        for row in rows
    }
    counts = Counter((row["data"], row["method"]) for row in rows)
    whole = len({data for data, _ in counts}) * len({method for _, method in counts})
    if len(settings) != 1 or len(counts) != whole or len(set(counts.values())) != 1:
        raise InputError(
            f"{path}: its runs differ in settings, or some are missing; finish "
            "`adadpo-mini sweep sets`, or start it again in another file."
        )
    [(steps, batch_size, beta, learning_rate)] = settings
    return (
        f"{steps:.0f} steps of {batch_size:.0f} pairs, β = {beta:g}, learning rate "
        f"{learning_rate:g}, {min(counts.values())} seeds (for the order of the pairs and the "
        "sampled answers). Δ is the change in the mean log-prob of held-out completions against "
        "the reference, in nats per completion. The win rate is against the reference's answers to "
        "held-out prompts, decided by the exact judge; a tie counts half. Both are measured on the "
        f"first {RaceConfig.eval_pairs} held-out pairs. Each cell is the mean over seeds ± half of "
        "its 95 % t interval, which does not cover other prompts or another base model."
    )


def _set_by_method(rows: Sequence[Row], what: str, cell: Callable[[str, str], str]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = sorted({row["data"] for row in rows})
    body = [(f"`{name}`", *(cell(name, method) for method in methods)) for name in names]
    return markdown_table((what, *methods), body)


def write_between(document: Path, name: str, text: str) -> None:
    """Replace the text between the lines <!-- name:begin --> and <!-- name:end -->.

    Everything else, line endings included, is unchanged. The document is replaced as a whole.

    Raises:
        InputError: the document cannot be read, or does not have each marker once, in this order.
            WriteError: it cannot be written; it is unchanged.
    """
    with _one_at_a_time(Path(os.path.realpath(document)).parent):
        content = _read_document(document)
        replace_text(document, _put_between(content, name, text, document))


def _put_between(content: str, name: str, text: str, document: Path) -> str:
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    counts = [content.count(marker) for marker in (begin, end)]
    if 0 in counts:
        raise InputError(f"{document} lacks the lines {begin} and {end}; add them.")
    if counts != [1, 1] or content.index(begin) > content.index(end):
        raise InputError(f"{document} must have {begin} once, and then {end} once; correct that.")
    before, _, rest = content.partition(begin)
    _, _, after = rest.partition(end)
    line_end = "\r\n" if rest.startswith("\r\n") else "\n"
    inner = line_end.join(["", *text.split("\n"), ""])
    return f"{before}{begin}{inner}{end}{after}"


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let processes that write into documents of one folder take turns, except on Windows.

    Without turns, one process could undo what another has written.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # always on Windows
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
    """Return the document's text, line endings unchanged."""
    try:
        if document.is_dir():
            raise InputError(f"{document} is a folder; give a document.")
        if not document.is_file():
            raise InputError(f"{document}: no such document.")
        return document.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{document} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{document} is not UTF-8; save it as UTF-8.") from error
