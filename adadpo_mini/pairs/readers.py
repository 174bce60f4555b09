"""The rows of a file of preference pairs, one after the other: JSON lines, JSON, CSV, Parquet.

No reader holds more of its file than it is working on. Each yields (number, row), where the number
is the line in JSON lines and counts the rows, from 1, elsewhere.
"""

import csv
import errno
import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.rows import FIELDS
from adadpo_mini.toyworld.sets import SETS

Numbered = Iterator[tuple[int, object]]

READ_AT_ONCE = 1 << 20  # characters, or bytes


def read_file(path: Path) -> tuple[str, Numbered]:
    """What a row of the file is called ("line" or "row"), and its rows.

    Args:
        path: by its ending .csv, .tsv, .parquet or .json; anything else is JSON lines, and so is
            a .json file that does not begin with "[".

    Raises:
        InputError: there is no such file. While iterating: it cannot be read, with the row.
    """
    check_is_file(
        path,
        "a JSON-lines, JSON, CSV or Parquet file of pairs, a folder that a data set's "
        f"save_to_disk wrote, or one of the toy sets: {', '.join(SETS)}",
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
    """Raise InputError unless there is an ordinary file, whose reading comes to an end.

    Args:
        wanted: what to give instead, in words.
        what: how to call what is missing.
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
        raise InputError(f"{path}: is a folder; give {wanted}.")
    if not stat.S_ISREG(mode):  # a device or a pipe might never end
        raise InputError(f"{path}: is no ordinary file; give {wanted}.")


def not_read(where: str, error: Exception) -> InputError:
    """What to raise where reading `where` has failed with `error`."""
    if isinstance(error, UnicodeDecodeError):
        return InputError(f"{where}: not UTF-8 text ({error.reason}); save it as UTF-8.")
    if reason := getattr(error, "strerror", None):
        return InputError(f"{where}: cannot be read ({reason}); give what can be read.")
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return InputError(f"{where}: cannot be read ({reason}); it is damaged, so save it anew.")


@contextmanager
def _text_of(path: Path, newline: str = "\n") -> Iterator[TextIO]:
    # Lines end at line feeds only: a JSON string may hold other characters that end lines.
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
                    f"{path}, line {number}: not JSON that can be read ({error})."
                ) from error
            yield number, row


def _json_rows(path: Path) -> Numbered:
    """The items of a JSON array, decoded one by one as the text comes in."""
    with _text_of(path) as file:
        window = _JsonWindow(file)
        window.take("[")
        number = 0
        while not window.take("]"):
            number += 1
            where = f"{path}, row {number}"
            if number > 1 and not window.take(","):
                raise InputError(f"{where}: there is no comma before it; put one, or mend the row.")
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
            raise InputError(f"{path}: there is more after the end of the array; remove it.")


class _JsonWindow:
    """The part of a JSON text that is being decoded."""

    _decode = json.JSONDecoder().raw_decode
    _skip_space = re.compile(r"[ \t\n\r]*").match

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            self._at = self._skip_space(self._text, self._at).end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self, mark: str) -> bool:
        """Step over the mark if it comes next."""
        found = self.peek() == mark
        self._at += found
        return found

    def decode(self) -> object:
        """The next value."""
        self.peek()
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except json.JSONDecodeError:
                # Perhaps it is only cut short. We read twice as much each time, so that a file
                # that is broken in its middle is not decoded over and over.
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
                        f"{path}, row {number}: has {cells} cells where the header has "
                        f"{len(rows.fieldnames)}; put text that holds a {mark!r} or a line break "
                        "in quotes."
                    )
                yield number, row
        except csv.Error as error:
            raise InputError(
                f"{path}, row {number + 1}: not readable as CSV ({error}); see whether a quote is "
                "left open there."
            ) from error


def _parquet_rows(path: Path) -> Numbered:
    import pyarrow.parquet

    try:
        # Buffered, and not in advance: otherwise all of the file is in memory at the end.
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
    except Exception as error:  # whatever the library meets in a file that it did not write so
        raise not_read(str(path), error) from error


def _batch_rows(path: Path, batch, before: int) -> list[dict]:
    """The rows of a batch; if one cannot be read, the error names it."""
    try:
        return batch.to_pylist()
    except ValueError:
        for i in range(len(batch)):
            try:
                batch.slice(i, 1).to_pylist()
            except ValueError as error:
                raise not_read(f"{path}, row {before + i + 1}", error) from error
        raise


def check_columns(name: object, columns) -> None:
    """Raise InputError unless the columns of pairs are among these."""
    for column in FIELDS[1:]:
        if column not in columns:
            raise InputError(
                f"{name}: has no column {column!r}; its columns are "
                f"{', '.join(map(str, columns)) or 'none'}; rename them, or add it."
            )
