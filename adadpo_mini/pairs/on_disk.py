"""Pairs that stay on the disk: what is larger than memory is looked up when it is asked for."""

import json
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.readers import not_read
from adadpo_mini.pairs.rows import Pair
from adadpo_mini.system.cache import scratch_folder

if TYPE_CHECKING:
    from datasets import Dataset

AT_ONCE = 1000  # rows


class PairsOnDisk(Sequence[Pair]):
    """Rows of a memory-mapped table, made into pairs on access.

    Args:
        table: what `datasets.Dataset` has mapped.
        indices: which of its rows, in which order.
        read: makes a row into a pair.
    """

    def __init__(self, table: "Dataset", indices: Sequence[int], read: Callable[[dict], Pair]):
        self.table, self.indices, self._read = table, indices, read

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return PairsOnDisk(self.table, self.indices[index], self._read)
        return self._read(self.table[self.indices[index]])

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), AT_ONCE):
            columns = self.table[list(self.indices[start : start + AT_ONCE])]
            yield from map(self._read, _rows_of(columns))

    def take(self, indices: Iterable[int]) -> "PairsOnDisk":
        """The pairs at these indices."""
        return PairsOnDisk(self.table, array("q", (self.indices[i] for i in indices)), self._read)


class Places(Sequence[str]):
    """Where pairs came from: one name, and a number for each."""

    def __init__(self, name: str, numbers: Sequence[int]) -> None:
        self._name, self._numbers = name, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Places(self._name, self._numbers[index])
        return f"{self._name} {self._numbers[index]}"

    def take(self, indices: Iterable[int]) -> "Places":
        """The places at these indices."""
        return Places(self._name, array("q", (self._numbers[i] for i in indices)))


def table_rows(table: "Dataset", name: str) -> Iterator[tuple[int, dict]]:
    """(number, row) of a table, numbered from 1.

    Raises:
        InputError: the table, or a row of it, is damaged.
    """
    _check_table(table, name)
    for start in range(0, len(table), AT_ONCE):
        try:
            rows = [*_rows_of(table[start : start + AT_ONCE])]
        except Exception:  # one at a time, to name the row at fault
            rows = [_row_of(table, i, name) for i in range(start, min(start + AT_ONCE, len(table)))]
        yield from enumerate(rows, start=start + 1)


def _check_table(table: "Dataset", name: str) -> None:
    """Raise InputError where reading what is mapped would read beside it."""
    import pyarrow

    try:
        table.data.table.validate(full=True)
    except pyarrow.ArrowException as error:
        if "UTF8" not in str(error):  # such cells are named with their row
            raise not_read(name, error) from error


def _row_of(table: "Dataset", index: int, name: str) -> dict:
    try:
        return table[index]
    except Exception as error:  # whatever the library meets in files that it did not write so
        raise not_read(f"{name}, row {index + 1}", error) from error


def _rows_of(columns: dict[str, list]) -> Iterator[dict]:
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


class Shelf:
    """A temporary file to which pairs are added, and from which they are then looked up.

    It goes when the pairs are no longer in use.
    """

    def __init__(self) -> None:
        import pyarrow

        text = pyarrow.string()
        names = ("prompt", "chosen", "rejected", "messages")
        self._schema = pyarrow.schema([(name, text) for name in names])
        self._folder = scratch_folder()
        self._path = Path(self._folder.name) / "pairs.arrow"
        self._writer = pyarrow.ipc.new_stream(str(self._path), self._schema)
        self._waiting: list[dict] = []

    def extend(self, pairs: Iterable[Pair]) -> None:
        """Add pairs."""
        for pair in pairs:
            # As text, since an Arrow table knows no field that a pair may or may not have.
            messages = json.dumps(pair["messages"]) if "messages" in pair else None
            self._waiting.append({**pair, "messages": messages})
            if len(self._waiting) == AT_ONCE:
                self._write()

    def close(self) -> PairsOnDisk:
        """All that was added; nothing more can be."""
        from datasets import Dataset

        self._write()
        self._writer.close()
        table = Dataset.from_file(str(self._path))
        weakref.finalize(table, self._folder.cleanup)
        return PairsOnDisk(table, range(len(table)), _unshelve)

    def _write(self) -> None:
        import pyarrow

        batch = pyarrow.RecordBatch.from_pylist(self._waiting, self._schema)
        try:
            self._writer.write_batch(batch)
        except OSError as error:
            raise InputError(
                f"{self._path.parent}: the pairs are too many for memory and cannot be written "
                f"here ({error.strerror}); let ADADPO_MINI_CACHE name a folder with more room."
            ) from error
        self._waiting.clear()


def _unshelve(row: dict) -> Pair:
    messages = row.pop("messages")
    return Pair(**row, messages=json.loads(messages)) if messages else Pair(**row)
