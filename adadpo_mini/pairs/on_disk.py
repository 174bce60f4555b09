"""Pairs that are too large for memory: a memory-mapped `datasets.Dataset`, read on access.

Writing the file is left to pyarrow: for 100,000 pairs `Dataset.from_generator` needs 1.9 s of CPU
time instead of 0.7 s, and replaces our error, which names the bad line, with its own.
"""

import json
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import WriteError
from adadpo_mini.pairs.opening import not_read
from adadpo_mini.pairs.rows import FIELDS, Pair
from adadpo_mini.pairs.tables import batch_rows
from adadpo_mini.system.cache import scratch_folder

if TYPE_CHECKING:
    from datasets import Dataset

AT_ONCE = 1000  # rows


class PairsOnDisk(Sequence[Pair]):
    """Rows of a memory-mapped table, each made into a pair on access.

    Args:
        table: the rows.
        read: makes a row into a pair.
    """

    def __init__(self, table: "Dataset", read: Callable[[dict], Pair]) -> None:
        self._table, self._read = table, read

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int | slice) -> "Pair | PairsOnDisk":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return self._read(self._table[index])

    def __iter__(self) -> Iterator[Pair]:
        for columns in self._table.iter(AT_ONCE):
            yield from map(self._read, _rows_of(columns))

    def take(self, indices: Iterable[int]) -> "PairsOnDisk":
        """Return the pairs at these indices."""
        return PairsOnDisk(self._table.select(indices), self._read)


class Places(Sequence[str]):
    """Where pairs came from: one name, and a number for each pair."""

    def __init__(self, name: str, numbers: Sequence[int]) -> None:
        self._name, self._numbers = name, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int | slice) -> "str | Places":
        if isinstance(index, slice):
            return Places(self._name, self._numbers[index])
        return f"{self._name} {self._numbers[index]}"

    def take(self, indices: Iterable[int]) -> "Places":
        """Return the places at these indices."""
        return Places(self._name, array("q", (self._numbers[i] for i in indices)))


def keep_on_disk(pairs: Iterable[Pair]) -> PairsOnDisk:
    """Write pairs to a temporary file, which is deleted when they are no longer in use.

    Raises:
        WriteError: the file cannot be written.
    """
    import pyarrow
    from datasets import Dataset

    def read(row: dict) -> Pair:
        messages = row.pop("messages")
        return Pair(**row, messages=json.loads(messages)) if messages else Pair(**row)

    folder = scratch_folder()
    weakref.finalize(read, folder.cleanup)  # every part of the pairs shares this function
    path = Path(folder.name) / "pairs.arrow"
    schema = pyarrow.schema([(name, pyarrow.string()) for name in (*FIELDS, "messages")])
    with _writing(path):
        writer = pyarrow.ipc.new_stream(str(path), schema)
    rows = map(_table_row, pairs)
    while part := list(islice(rows, AT_ONCE)):
        with _writing(path):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(part, schema))
    with _writing(path):
        writer.close()
    return PairsOnDisk(Dataset.from_file(str(path)), read)


def _table_row(pair: Pair) -> dict:
    # Messages as text, because every row of an Arrow table has every field.
    return {**pair, "messages": json.dumps(pair["messages"]) if "messages" in pair else None}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path.parent}: the pairs are too large for memory, and writing them here failed "
            f"({error.strerror}); set ADADPO_MINI_CACHE to a folder with more space."
        ) from error


def table_rows(table: "Dataset", name: str) -> Iterator[tuple[int, dict]]:
    """Yield (number, row) for each row of a table, numbered from 1. Of a picture or the like a row
    says only whether there is one.

    Raises:
        InputError: the table, or a row in it, is damaged.
    """
    _check_table(table, name)
    table = table.with_format("arrow")  # the library would decode pictures
    for start in range(0, len(table), AT_ONCE):
        end = min(start + AT_ONCE, len(table))
        try:
            rows = batch_rows(table[start:end])
        except Exception:  # read one row at a time, to name the one that is damaged
            rows = [_row_of(table, i, name) for i in range(start, end)]
        yield from enumerate(rows, start=start + 1)


def _check_table(table: "Dataset", name: str) -> None:
    """Raise an InputError if reading the table would read memory outside it."""
    import pyarrow

    try:
        table.data.table.validate(full=True)
    except pyarrow.ArrowException as error:
        if "UTF8" not in str(error):  # `table_rows` names the row of such a cell
            raise not_read(name, error) from error


def _row_of(table: "Dataset", index: int, name: str) -> dict:
    try:
        return batch_rows(table[index : index + 1])[0]
    except Exception as error:  # the library raises many kinds on a damaged file
        raise not_read(f"{name}, row {index + 1}", error) from error


def _rows_of(columns: dict[str, list]) -> Iterator[dict]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))
