"""Preference pairs: load, check, split.

A pair is TRL's explicit-prompt row: {"prompt": str, "chosen": str, "rejected": str}. What a row may
look like is said in `rows.py`, which rows are dropped in `screening.py`; `readers.py` reads files,
`hub.py` finds data sets of the `datasets` library, and `lazy.py` keeps on the disk what is large.
`tokens.py` makes pairs into batches.
"""

import os
import zlib
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.hub import choose_split, is_hub_name, is_saved_dataset, open_hub, open_saved
from adadpo_mini.pairs.on_disk import PairsOnDisk, Places, Shelf, table_rows
from adadpo_mini.pairs.readers import Numbered, check_columns, read_file
from adadpo_mini.pairs.rows import FIELDS, Message, Pair, read_row, shown
from adadpo_mini.pairs.screening import LoadReport, Screen
from adadpo_mini.system.files import user_path
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.sets import SETS

__all__ = [
    "LoadReport",
    "Message",
    "Pair",
    "Pairs",
    "load_pairs",
    "load_splits",
    "split_pairs",
]

IN_MEMORY = 1 << 24  # characters; what is larger stays on the disk
TOY_SPLITS = ("train", "test")
GIVEN = "what was given"
# How the data frames of pyarrow, polars and pandas give their rows: a method, and its arguments.
FRAMES = {"to_pylist": (), "to_dicts": (), "to_dict": ("records",)}


@dataclass(frozen=True)
class Pairs(Sequence[Pair]):
    """A list of pairs that remembers where each came from, so that an error can name the line.

    Attributes:
        rows: the pairs; a tuple, or `PairsOnDisk` if they are many.
        where: the place of each.
        report: what became of the rows of the file or data set that they were loaded from.
    """

    rows: Sequence[Pair]
    where: Sequence[str]
    report: LoadReport | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Pairs(self.rows[index], self.where[index], self.report)
        return self.rows[index]

    def __iter__(self):
        return iter(self.rows)

    def take(self, indices: Iterable[int]) -> "Pairs":
        """The pairs at these indices."""
        indices = list(indices)
        rows, where = (
            tuple(items[i] for i in indices) if isinstance(items, tuple) else items.take(indices)
            for items in (self.rows, self.where)
        )
        return Pairs(rows, where, self.report)


def load_pairs(source: str | Path | Iterable[dict], split: str = "train") -> Pairs:
    """Load and check preference pairs.

    Pairs that repeat an earlier one are dropped. A row without a preference is an error in JSON
    lines and in rows given as such, which somebody wrote and can mend; in the other forms it is
    dropped. `report` of the result counts both. What is large stays on the disk.

    Args:
        source: the name of a toy set ("tone", "swap", ...); a JSON-lines, JSON, CSV or Parquet
            file; a folder that `save_to_disk` of the `datasets` library wrote; a data set on the
            hub ("Anthropic/hh-rlhf", owner/name:config, owner/name@revision), whose copy on this
            machine is taken where the hub cannot be asked; or any iterable of rows such as a list
            of dicts or a `datasets.Dataset`; or columns, as a data frame or a dict of lists. A row
            may have any of TRL's forms, see `rows.read_row`.
        split: "train" or "test", or the name of a split; files and rows have none.

    Raises:
        InputError: there is no such source or split, it cannot be read, or a row is no preference;
            the message names file and line.

    >>> pair = load_pairs("swap", split="test")[0]
    >>> sorted(pair)
    ['chosen', 'prompt', 'rejected']
    """
    return _load(_open(source), split)[0]


def load_splits(source: str | Path | Iterable[dict]) -> tuple[Pairs, Pairs]:
    """(train, held out): a data set's own splits if it has both; else made by `split_pairs`.

    A pair of the test split that stands in the training split as well is dropped from the former.
    """
    source = _open(source)
    train, seen = _load(source, "train")
    if _is_toy(source.data) or (_has_splits(source.data) and choose_split(source.data, "test")):
        return train, _load(source, "test", trained=seen)[0]
    return split_pairs(train)


def split_pairs(pairs: Pairs, every: int = 10) -> tuple[Pairs, Pairs]:
    """(train, held out): one prompt in `every`, at least one, is held out, chosen by its checksum.

    Equal prompts stay on one side. If there is one prompt only, both sides are all the pairs.
    """
    checksums = array("L", (zlib.crc32(pair["prompt"].encode()) for pair in pairs))
    prompts = sorted(set(checksums))
    if len(prompts) < 2:
        return pairs, pairs
    held_out = set(prompts[: max(1, len(prompts) // every)])
    train = [i for i, checksum in enumerate(checksums) if checksum not in held_out]
    test = [i for i, checksum in enumerate(checksums) if checksum in held_out]
    return pairs.take(train), pairs.take(test)


class _Source(NamedTuple):
    """What pairs are loaded from: a toy set's name, a path, a `Dataset`, a `DatasetDict` or rows;
    what to call it, and a note for its report."""

    data: object
    name: str
    note: str = ""


def _open(source: str | Path | Iterable[dict]) -> _Source:
    if not isinstance(source, (str, os.PathLike)):
        return _Source(_as_rows(source), GIVEN)
    if _is_toy(source):
        return _Source(source, source)
    path = user_path(source)
    if is_saved_dataset(path):
        return _Source(open_saved(path), str(path))
    if isinstance(source, str) and is_hub_name(source) and not os.path.exists(path):  # noqa: PTH110
        data, note = open_hub(source)
        return _Source(data, source, note)
    return _Source(path, str(path))


def _as_rows(given: object) -> object:
    """Rows, a `Dataset` or a dict of them, as they are; columns as rows.

    Raises:
        InputError: it is none of these.
    """
    if _is_dataset(given) or _has_splits(given):
        return given
    for name, how in FRAMES.items():
        if hasattr(given, name) and hasattr(given, "columns"):
            return getattr(given, name)(*how)
    if isinstance(given, Mapping):
        check_columns(GIVEN, given)
        columns = {name: given[name] for name in FIELDS if name in given}
        if not all(isinstance(c, Sized) and not isinstance(c, str) for c in columns.values()):
            raise InputError(f"{GIVEN} is a dict, but not of lists; put a single pair into a list.")
        if len(set(map(len, columns.values()))) > 1:
            lengths = ", ".join(f"{name} {len(column):,}" for name, column in columns.items())
            raise InputError(f"{GIVEN}: its columns differ in length ({lengths}); mend that.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray)):
        return given
    raise InputError(
        f"data must be the name of a toy set, a file, a data set, or rows of pairs, not "
        f"{shown(given)}."
    )


def _load(
    source: _Source, split: str, trained: Set[bytes] = frozenset()
) -> tuple[Pairs, Set[bytes]]:
    """The pairs of a split, without those that were trained on; and digests of them all."""
    data, name, note = source
    if _is_toy(data):
        if split not in TOY_SPLITS:
            raise InputError(
                f"{name}: has no split {shown(split)}; its splits are {', '.join(TOY_SPLITS)}."
            )
        data = data_dir() / data / f"{split}.jsonl"
    if isinstance(data, Path):
        unit, rows = read_file(data)
        screen = Screen(str(data), strict=unit == "line", trained=trained)
        return _collect(screen, unit, rows), screen.seen
    if _has_splits(data):
        chosen = choose_split(data, split)
        if chosen is None:
            names = ", ".join(data)
            raise InputError(f"{name}: has no split {shown(split)}; its splits are {names}.")
        data, name = data[chosen], f"{name} ({chosen})"
    if _is_dataset(data):
        check_columns(name, data.column_names)
        table = data.with_format(None).select_columns(
            [column for column in FIELDS if column in data.column_names]
        )
        screen = Screen(name, strict=False, trained=trained)
        return _collect(screen, "row", table_rows(table, name), table, note), screen.seen
    screen = Screen(name, strict=True, trained=trained)
    return _collect(screen, "pair", enumerate(data, start=1)), screen.seen


def _collect(screen: Screen, unit: str, rows: Numbered, table=None, note: str = "") -> Pairs:
    """Check rows in one pass, and keep them in memory until they prove to be too many."""
    name = screen.source
    place = unit if unit == "pair" else f"{name}, {unit}"
    numbers = array("q")
    pairs: list[Pair] = []
    size, shelf = 0, None
    for number, row in rows:
        pair = screen.check(f"{place} {number}", row)
        if pair is None:
            continue
        numbers.append(number)
        pairs.append(pair)
        size += sum(len(pair[side]) for side in FIELDS)
        if size > IN_MEMORY:
            if table is None:
                shelf = shelf or Shelf()
                shelf.extend(pairs)
            pairs.clear()
    report = screen.report(note)
    if not report.rows:
        raise InputError(f"{name}: holds no pairs; give at least one row with chosen and rejected.")
    if size <= IN_MEMORY:
        return Pairs(tuple(pairs), tuple(f"{place} {number}" for number in numbers), report)
    if shelf:
        return Pairs(shelf.close(), Places(place, numbers), report)
    indices = array("q", (number - 1 for number in numbers))
    lazy = PairsOnDisk(table, indices, lambda row: read_row(name, row))
    return Pairs(lazy, Places(place, numbers), report)


def _is_toy(source: object) -> bool:
    return isinstance(source, str) and source in SETS


def _has_splits(source: object) -> bool:
    return (
        isinstance(source, dict)
        and bool(source)
        and all(hasattr(part, "select_columns") for part in source.values())
    )


def _is_dataset(source: object) -> bool:
    """Told without importing `datasets`: whoever has one has imported it."""
    return hasattr(source, "select_columns") and hasattr(source, "num_rows")
