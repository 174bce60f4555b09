"""Preference pairs: load, check, split.

A pair is a row in TRL's explicit-prompt form: {"prompt": str, "chosen": str, "rejected": str}.
`rows.py` reads the other forms that a row may have, `screening.py` decides which rows are dropped,
`sources.py` opens what is given, with `readers.py` for files and `hub.py` for data sets of the
`datasets` library, and `on_disk.py` keeps large data on disk. The folder `tokens` turns pairs into
batches.
"""

import zlib
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.hub import choose_split
from adadpo_mini.pairs.on_disk import PairsOnDisk, Places, keep_on_disk, table_rows
from adadpo_mini.pairs.readers import Numbered, read_file
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.rows import FIELDS, Message, Pair, read_row
from adadpo_mini.pairs.screening import LoadReport, Screen
from adadpo_mini.pairs.sources import (
    Source,
    has_splits,
    is_dataset,
    is_stream,
    is_toy,
    open_source,
)
from adadpo_mini.pairs.tables import known_columns, stream_rows, without_media
from adadpo_mini.toyworld import data_dir

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "LoadReport",
    "Message",
    "Pair",
    "Pairs",
    "load_pairs",
    "load_splits",
    "split_pairs",
]

IN_MEMORY = 1 << 24  # characters
TOY_SPLITS = ("train", "test")


@dataclass(frozen=True)
class Pairs(Sequence[Pair]):
    """A list of pairs that remembers where each came from, so that an error can name the line.

    Attributes:
        rows: the pairs; a tuple, or `PairsOnDisk` if they are too large for memory.
        where: where each pair came from, such as "pairs.jsonl, line 3".
        report: how many rows of the source were kept, and why the others were not.
    """

    rows: Sequence[Pair]
    where: Sequence[str]
    report: LoadReport | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | slice) -> "Pair | Pairs":
        if isinstance(index, slice):
            return Pairs(self.rows[index], self.where[index], self.report)
        return self.rows[index]

    def __iter__(self) -> Iterator[Pair]:
        return iter(self.rows)

    def take(self, indices: Iterable[int]) -> "Pairs":
        """Return the pairs at these indices."""
        indices = list(indices)
        rows, where = (
            tuple(items[i] for i in indices) if isinstance(items, tuple) else items.take(indices)
            for items in (self.rows, self.where)
        )
        return Pairs(rows, where, self.report)


def load_pairs(
    source: str | Path | Iterable[dict], split: str = "train", *, in_memory: int = IN_MEMORY
) -> Pairs:
    """Load and check preference pairs.

    A pair that repeats an earlier one is dropped. A row that is not a preference is an error in a
    file and in rows passed from Python, whose author can fix it; in a data set of the `datasets`
    library (on the hub, in a saved folder, or passed as such) the row is dropped. The result's
    `report` counts both.

    Args:
        source: the name of a toy set ("tone", "swap", ...); a JSON-lines, JSON, CSV or Parquet
            file, the first three also with gzip; a folder written by `save_to_disk` of the
            `datasets` library; a data set on the hub ("Anthropic/hh-rlhf", owner/name:config,
            owner/name@revision), read from its local copy if the hub does not answer; an iterable
            of rows, such as a list of dicts or a `datasets.Dataset`, streamed or not; or columns,
            as a data frame or a dict of lists. For the forms of a row see `rows.read_row`. A set,
            a folder and a name on the hub may name a split: "tone:test", "owner/name:split",
            "owner/name:config:split".
        split: "train", "test", or the name of a split, if the source names none; files and rows
            have no splits.
        in_memory: how many characters of text may stay in memory; larger data stays on disk.

    Raises:
        InputError: the source or the split does not exist or cannot be read, or a row is not a
            preference; the message names the file and the line.

    >>> pair = load_pairs("swap", split="test")[0]
    >>> sorted(pair)
    ['chosen', 'prompt', 'rejected']
    """
    return _load(open_source(source), split, in_memory)[0]


def load_splits(
    source: str | Path | Iterable[dict], *, in_memory: int = IN_MEMORY
) -> tuple[Pairs, Pairs]:
    """Return (train, held out): a data set's own splits if it has both, else those that
    `split_pairs` makes of the training split, or of the split that the source names.

    A pair of the test split that is also in the training split is dropped from the test split.

    Args:
        source, in_memory: as for `load_pairs`.

    Raises:
        InputError: as `load_pairs`.
    """
    source = open_source(source)
    train, seen = _load(source, "train", in_memory)
    has_test = has_splits(source.data) and choose_split(source.data, "test")
    if source.split is None and (is_toy(source.data) or has_test):
        return train, _load(source, "test", in_memory, trained=seen)[0]
    return split_pairs(train)


def split_pairs(pairs: Pairs, every: int = 10) -> tuple[Pairs, Pairs]:
    """Return (train, held out): one prompt in `every`, chosen by its checksum, is held out.

    Equal prompts stay on one side. At least one prompt is held out, but if there is only one, both
    sides are all the pairs.
    """
    checksums = array("L", (zlib.crc32(pair["prompt"].encode()) for pair in pairs))
    prompts = sorted(set(checksums))
    if len(prompts) < 2:
        return pairs, pairs
    held_out = set(prompts[: max(1, len(prompts) // every)])
    train = [i for i, checksum in enumerate(checksums) if checksum not in held_out]
    test = [i for i, checksum in enumerate(checksums) if checksum in held_out]
    return pairs.take(train), pairs.take(test)


def _load(
    source: Source, split: str, in_memory: int, trained: Set[bytes] = frozenset()
) -> tuple[Pairs, Set[bytes]]:
    """Return the pairs of a split, without those in `trained`, and the digests of all of them."""
    here = _open_split(source, source.split or split)
    screen = Screen(here.name, strict=here.strict, trained=trained)
    screen.remarks.saw(here.columns)
    pairs = _collect(screen, here.unit, here.rows, in_memory, here.table, source.note)
    if is_toy(source.data):  # its other columns are our own
        report = replace(pairs.report, remarks=Remarks())
        pairs = Pairs(pairs.rows, pairs.where, report)
    return pairs, screen.seen


class _Split(NamedTuple):
    """The rows of a split, and what a message calls one of them."""

    name: str
    unit: str
    rows: Numbered
    strict: bool
    columns: tuple[str, ...] = ()
    table: "Dataset | None" = None


def _open_split(source: Source, split: str) -> _Split:
    data, name = source.data, source.name
    if is_toy(data):
        if split not in TOY_SPLITS:
            raise _no_split(name, split, TOY_SPLITS)
        data = data_dir() / data / f"{split}.jsonl"
    if isinstance(data, Path):
        unit, rows, columns = read_file(data)
        return _Split(str(data), unit, rows, True, columns)
    if has_splits(data):
        chosen = choose_split(data, split)
        if chosen is None:
            raise _no_split(name, split, data)
        data, name = data[chosen], f"{name} ({chosen})"
    elif source.split:
        raise InputError(f"{name} has no splits; leave out {':' + source.split!r}.")
    if is_dataset(data):
        table, columns = known_columns(data, name)
        return _Split(name, "row", table_rows(table, name), False, columns, table)
    if is_stream(data):
        rows, columns = stream_rows(data, name)
        return _Split(name, "row", rows, False, columns)
    return _Split(name, "pair", enumerate(data, start=1), True, source.columns)


def _no_split(name: str, split: object, splits: Iterable[str]) -> InputError:
    return InputError(f"{name} has no split {shown(split)}; its splits are {', '.join(splits)}.")


def _collect(
    screen: Screen,
    unit: str,
    rows: Numbered,
    in_memory: int,
    table: "Dataset | None" = None,
    note: str = "",
) -> Pairs:
    """Check rows in one pass, and keep the pairs in memory until they prove too large for it.

    Args:
        table: the `Dataset` that the rows are from, which is already on disk.
    """
    name = screen.source
    place = unit if unit == "pair" else f"{name}, {unit}"
    numbers = array("q")
    pairs = _usable(screen, place, rows, numbers)
    first, is_all = _up_to(in_memory, pairs)
    if is_all:
        kept = tuple(first)
    elif table is None:
        kept = keep_on_disk(chain(first, pairs))
    else:
        deque(pairs, maxlen=0)  # check the rest, and keep its numbers
        texts = without_media(table.select([n - 1 for n in numbers]))
        kept = PairsOnDisk(texts, lambda row: read_row(name, row))
    report = screen.report(note)
    if not report.rows:
        raise InputError(f"{name} has no pairs; give at least one row with chosen and rejected.")
    places = Places(place, numbers)
    return Pairs(kept, tuple(places) if is_all else places, report)


def _usable(screen: Screen, place: str, rows: Numbered, numbers: array) -> Iterator[Pair]:
    """Yield the pairs that pass the screen, and append the number of each to `numbers`."""
    for number, row in rows:
        pair = screen.check(f"{place} {number}", row)
        if pair is not None:
            numbers.append(number)
            yield pair


def _up_to(characters: int, pairs: Iterator[Pair]) -> tuple[list[Pair], bool]:
    """Return the first pairs, until they exceed this many characters, and whether that is all."""
    first, size = [], 0
    for pair in pairs:
        first.append(pair)
        size += sum(len(pair[field]) for field in FIELDS)
        if size > characters:
            return first, False
    return first, True
