"""Read the rows of a file of preference pairs, one by one: JSON lines, JSON, CSV, Parquet.

Each reader yields (number, row): the number is the line in JSON lines, and the row, from 1, in the
other formats. No reader holds more of its file in memory than it is working on.

Why not `datasets.load_dataset` (5.2)? It reads texts that look like dates as dates, fills missing
JSON fields and CSV cells, shifts the columns of a CSV row with a cell too many, crashes the
interpreter on a line "null", and does not name the line at fault. A Parquet file of 1,000 pairs
takes it 0.7 s of CPU time instead of 0.05 s; one of 125 MB takes twice the time and memory.
"""

import csv
import errno
import json
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.rows import FIELDS
from adadpo_mini.toyworld.sets import SETS

if TYPE_CHECKING:
    from pyarrow import RecordBatch

Numbered = Iterator[tuple[int, object]]

READ_AT_ONCE = 1 << 20  # characters, or bytes


def read_file(path: Path) -> tuple[str, Numbered]:
    """Return what messages call a row of the file ("line" or "row"), and its rows.

    Args:
        path: the ending .csv, .tsv, .parquet or .json decides the format. Any other file is JSON
            lines, and so is a .json file that does not begin with "[".

    Raises:
        InputError: there is no such file; or, while iterating, it cannot be read.
    """
    check_is_file(
        path,
        "a JSON-lines, JSON, CSV or Parquet file of pairs, a folder written by a data set's "
        f"save_to_disk, or one of the toy sets: {', '.join(SETS)}",
    )
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv"):
        return "row", _csv_rows(path)
    if ending == ".parquet":
        return "row", _parquet_rows(path)
    if ending == ".json" and _begins_with_bracket(path):
        return "row", _json_rows(path)
    return "line", _json_lines(path)


def check_is_file(path: Path, wanted: str, what: str = "file") -> None:
    """Raise an InputError unless the path is a regular file, which has an end.

    Args:
        wanted: what to give instead, in words.
        what: what the message calls a missing file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.EACCES:
            raise not_read(str(path), error) from error
        usual = error.errno in (errno.ENOENT, errno.ENOTDIR)
        why = "" if usual else f" ({error.strerror})"
        raise InputError(f"{path}: there is no such {what}{why}; give {wanted}.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; give {wanted}.")
    if not stat.S_ISREG(mode):  # a device or a pipe might never end
        raise InputError(f"{path} is not a regular file; give {wanted}.")


def not_read(where: str, error: Exception) -> InputError:
    """Return the InputError to raise after reading `where` has failed with `error`."""
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"{where}: not UTF-8 text ({error.reason}); save it as UTF-8.")
    if reason := getattr(error, "strerror", None):
        return InputError(f"{where} cannot be read ({reason}); give a file that can be.")
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return InputError(f"{where} cannot be read ({reason}); it is damaged, save it again.")


@contextmanager
def _text_of(path: Path, newline: str = "\n") -> Iterator[TextIO]:
    # Only a line feed ends a line: a JSON string may contain other characters that end lines.
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except (UnicodeDecodeError, OSError) as error:
        raise not_read(str(path), error) from error


def _begins_with_bracket(path: Path) -> bool:
    with _text_of(path) as file:
        for line in file:
            if line.strip():
                return line.lstrip().startswith("[")
    return False


def _json_lines(path: Path) -> Numbered:
    with _text_of(path) as file:
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
    with _text_of(path) as file:
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
    with _text_of(path, newline="") as file:
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


def _parquet_rows(path: Path) -> Numbered:
    import pyarrow.parquet

    try:
        # Otherwise pyarrow reads ahead, and ends with the whole file in memory.
        with pyarrow.parquet.ParquetFile(path, buffer_size=READ_AT_ONCE, pre_buffer=False) as file:
            names = file.schema_arrow.names
            check_columns(path, names)
            columns = [name for name in FIELDS if name in names]
            number = 0
            for batch in file.iter_batches(batch_size=1000, columns=columns):
                yield from enumerate(_batch_rows(path, batch, number), start=number + 1)
                number += len(batch)
    except InputError:
        raise
    except Exception as error:  # the library raises many kinds on a damaged file
        raise not_read(str(path), error) from error


def _batch_rows(path: Path, batch: "RecordBatch", before: int) -> list[dict]:
    """Return the rows of a batch; if one cannot be read, the error names it."""
    try:
        return batch.to_pylist()
    except ValueError:
        for i in range(len(batch)):
            try:
                batch.slice(i, 1).to_pylist()
            except ValueError as error:
                raise not_read(f"{path}, row {before + i + 1}", error) from error
        raise


def check_columns(name: object, columns: Collection[str]) -> None:
    """Raise an InputError unless the columns of pairs are among these."""
    for column in FIELDS[1:]:
        if column not in columns:
            raise InputError(
                f"{name} has no column {column!r}; its columns are "
                f"{', '.join(map(str, columns)) or 'none'}; rename one, or add it."
            )
