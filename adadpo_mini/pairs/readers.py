"""Read the rows of a file of preference pairs, one by one: JSON lines, JSON, CSV, Parquet.

Each reader yields (number, row): the number is the line in JSON lines, and the row, from 1, in the
other formats. No reader holds more of its file in memory than it is working on.

Why not `datasets.load_dataset` (5.2)? It reads texts that look like dates as dates, fills missing
JSON fields and CSV cells, shifts the columns of a CSV row with a cell too many, crashes the
interpreter on a line "null", and does not name the line at fault. A Parquet file of 1,000 pairs
takes it 0.7 s of CPU time instead of 0.05 s; one of 125 MB takes twice the time and memory.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.columns import check_columns
from adadpo_mini.pairs.opening import check_is_file, format_of, not_read, text_of_file
from adadpo_mini.pairs.tables import batch_rows, columns_to_read
from adadpo_mini.system.cells import long_cells
from adadpo_mini.toyworld.sets import SETS

if TYPE_CHECKING:
    from pyarrow import RecordBatch

Numbered = Iterator[tuple[int, object]]

READ_AT_ONCE = 1 << 20  # characters, or bytes


def read_file(path: Path) -> tuple[str, Numbered, tuple[str, ...]]:
    """Return what messages call a row of the file ("line" or "row"), its rows, and the names of its
    columns if the rows do not have all of them.

    Args:
        path: the ending .csv, .tsv, .parquet or .json, with or without .gz, decides the format. Any
            other file is JSON lines, and so is a .json file that does not begin with "[".

    Raises:
        InputError: there is no such file; or, while iterating, it cannot be read.
    """
    check_is_file(
        path,
        "a JSON-lines, JSON, CSV or Parquet file of pairs, a folder written by a data set's "
        f"save_to_disk, or one of the toy sets: {', '.join(SETS)}",
    )
    ending = format_of(path)
    if ending in (".csv", ".tsv"):
        return "row", _csv_rows(path), ()
    if ending == ".parquet":
        return "row", _parquet_rows(path), _parquet_columns(path)
    if ending == ".json" and _begins_with_bracket(path):
        return "row", _json_rows(path), ()
    return "line", _json_lines(path), ()


def _begins_with_bracket(path: Path) -> bool:
    with text_of_file(path) as file:
        for line in file:
            if line.strip():
                return line.lstrip().startswith("[")
    return False


def _json_lines(path: Path) -> Numbered:
    with text_of_file(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: not valid JSON ({error.msg} at column {error.colno}); "
                    'each line must be one object like {"prompt": ..., "chosen": ..., '
                    '"rejected": ...}.'
                ) from error
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{path}, line {number}: JSON that cannot be read ({error}); simplify the row."
                ) from error
            yield number, row


def _json_rows(path: Path) -> Numbered:
    """Decode the items of a JSON array one by one, as the text comes in."""
    with text_of_file(path) as file:
        window = _JsonWindow(file)
        window.take("[")
        number = 0
        while not window.take("]"):
            number += 1
            where = f"{path}, row {number}"
            if number > 1 and not window.take(","):
                raise InputError(f"{where}: a comma is missing before it; add one, or fix the row.")
            try:
                row = window.decode()
            except (ValueError, RecursionError) as error:
                reason = getattr(error, "msg", error)
                raise InputError(
                    f"{where}: not valid JSON ({reason}); the file must be an array of objects "
                    'like {"prompt": ..., "chosen": ..., "rejected": ...}.'
                ) from error
            yield number, row
        if window.peek():
            raise InputError(f"{path}: there is text after the end of the array; remove it.")


class _JsonWindow:
    """The part of a JSON text that is in memory, and the position in it."""

    _decode = json.JSONDecoder().raw_decode
    _skip_space = re.compile(r"[ \t\n\r]*").match

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            self._at = self._skip_space(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self, mark: str) -> bool:
        """Step over the mark if it comes next, and return whether it did."""
        found = self.peek() == mark
        self._at += found
        return found

    def decode(self) -> object:
        """Decode the next value."""
        self.peek()
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError:
                # The value may only be cut short. Doubling what is read keeps the number of
                # attempts small if the file turns out to be broken.
                if not self._read_on():
                    raise

    def _read_on(self) -> bool:
        rest = self._text[self._at :]
        more = "" if self._ended else self._file.read(max(READ_AT_ONCE, len(rest)))
        self._text, self._at, self._ended = rest + more, 0, not more
        return bool(more)


def _csv_rows(path: Path) -> Numbered:
    with long_cells(), text_of_file(path, newline="") as file:
        header = file.readline()
        file.seek(0)
        marks = [mark for mark in ",;\t" if mark in header]
        mark = max(marks, key=header.count, default=",")  # Excel writes ; in half of Europe
        rows = csv.DictReader(file, delimiter=mark, strict=True)
        number = 0
        try:
            check_columns(path, rows.fieldnames or ())
            for number, row in enumerate(rows, start=1):
                cells = len(rows.fieldnames) - list(row.values()).count(None)
                if None in row or cells < len(rows.fieldnames):
                    cells += len(row.get(None, ()))
                    raise InputError(
                        f"{path}, row {number} has {cells} cells, but the header has "
                        f"{len(rows.fieldnames)}; quote text that contains a {mark!r} or a line "
                        "break."
                    )
                yield number, row
        except csv.Error as error:
            raise InputError(
                f"{path}, row {number + 1}: not valid CSV ({error}); close any quote left open "
                "there."
            ) from error


def _parquet_columns(path: Path) -> tuple[str, ...]:
    import pyarrow.parquet

    try:
        return tuple(pyarrow.parquet.read_schema(path).names)
    except Exception as error:  # the library raises many kinds on a damaged file
        raise not_read(str(path), error) from error


def _parquet_rows(path: Path) -> Numbered:
    import pyarrow.parquet

    try:
        # Otherwise pyarrow reads ahead, and ends with the whole file in memory.
        with pyarrow.parquet.ParquetFile(path, buffer_size=READ_AT_ONCE, pre_buffer=False) as file:
            names = file.schema_arrow.names
            check_columns(path, names)
            columns = columns_to_read(names)
            number = 0
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                yield from enumerate(_rows(path, batch, number), start=number + 1)
                number += len(batch)
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds on a damaged file
        raise not_read(str(path), error) from error


def _rows(path: Path, batch: "RecordBatch", before: int) -> list[dict]:
    """Return the rows of a batch; if one cannot be read, the error names it."""
    try:
        return batch_rows(batch)
    except ValueError:
        for i in range(len(batch)):
            try:
                batch_rows(batch.slice(i, 1))
            except ValueError as error:
                raise not_read(f"{path}, row {before + i + 1}", error) from error
        raise
