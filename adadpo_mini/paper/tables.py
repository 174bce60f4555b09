"""Tables for documents: a sweep's results in Markdown, written between two markers."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.paper.claim_tables import claims_tables
from adadpo_mini.paper.findings import findings
from adadpo_mini.paper.results import Row, read_measurements
from adadpo_mini.paper.set_tables import arcs_table, beta_table, sets_table
from adadpo_mini.system.files import replace_text

TABLES: dict[str, tuple[str, Callable[[Sequence[Row], str], str]]] = {
    "claims": ("grid", claims_tables),
    "findings": ("grid", lambda rows, _: findings(rows)),
    "sets": ("sets", sets_table),
    "beta": ("beta", beta_table),
    "arcs": ("default", arcs_table),
}
"""The tables by kind: the experiment that their file must have, and what makes them."""


def table(kind: str, path: Path) -> str:
    """Return a table, one of `TABLES`, of a sweep's results.

    Raises:
        InputError: the file is not a sweep's, its runs do not make this table, or a value is
            missing.
    """
    experiment, make = TABLES[kind]
    rows = read_measurements(path)
    if experiment not in {row["experiment"] for row in rows}:
        raise InputError(
            f"{path} has no runs of {experiment}, which the table {kind} shows; make them with "
            f"`adadpo-mini sweep {PLAN_OF.get(kind, kind)}`."
        )
    return make(rows, str(path))


PLAN_OF = {"claims": "paper", "findings": "paper"}
"""The plan whose results a table shows, if it has another name."""


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
