"""Writing the tidy file of a sweep: all rows of a race or none of them."""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from adadpo_mini.paper.results import COLUMNS, Row, numbered_rows, run_of, whole_lines
from adadpo_mini.system.files import append_text, drop_torn_end, replace_text, to_disk, writing


def check_is_results(path: Path) -> None:
    """Raise InputError if the file exists and is not a sweep's."""
    with writing(path):
        if path.exists():
            whole_lines(path)


def mend(path: Path) -> None:
    """Make a sweep's file ready for more rows: cut off an incomplete last line.

    Raises:
        InputError: the file is not a sweep's; it is unchanged. WriteError: it cannot be written.
    """
    check_is_results(path)
    with writing(path):
        if path.exists():
            with path.open("ab"):  # fails, before anything changes, if it cannot be written
                drop_torn_end(path)


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows, all of them or none; a new file gets a header.

    Raises:
        WriteError: they cannot be written; the file is unchanged.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists() or not path.stat().st_size
    cells = [["" if row.get(name) is None else row[name] for name in COLUMNS] for row in rows]
    append_text(path, _as_csv([COLUMNS, *cells] if is_new else cells))
    to_disk(path)


def drop_runs(path: Path, runs: Collection[tuple]) -> None:
    """Remove the rows of incomplete runs, which will run again.

    Args:
        runs: see `run_of`.

    Raises:
        WriteError: the file cannot be replaced; it is unchanged.
    """
    rows = list(numbered_rows(path))
    kept = [cells for _, cells, row in rows if run_of(row) not in runs]
    if len(kept) < len(rows):
        replace_text(path, _as_csv([COLUMNS, *kept]))


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
