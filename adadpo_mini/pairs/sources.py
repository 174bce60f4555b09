"""What pairs can be loaded from: a toy set, a file, a data set, rows or columns."""

import os
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import NamedTuple

from adadpo_mini.errors import InputError, did_you_mean, shown
from adadpo_mini.pairs.columns import check_columns
from adadpo_mini.pairs.hub import is_hub_name, is_saved_dataset, open_hub, open_saved
from adadpo_mini.pairs.tables import columns_to_read
from adadpo_mini.system.files import user_path
from adadpo_mini.toyworld.sets import SETS

GIVEN = "the given data"
# The method, and its arguments, that returns the rows of a data frame: pyarrow, polars, pandas.
FRAMES = {"to_pylist": (), "to_dicts": (), "to_dict": ("records",)}


class Source(NamedTuple):
    """What pairs are loaded from.

    Attributes:
        data: the name of a toy set, a path, a `Dataset`, a `DatasetDict`, or rows.
        name: what messages call it.
        note: a note for the report.
        split: the split that the source names, as in "tone:test".
        columns: the names of the columns, if the rows do not have all of them.
    """

    data: object
    name: str
    note: str = ""
    split: str | None = None
    columns: tuple[str, ...] = ()


def open_source(source: str | Path | Iterable[dict]) -> Source:
    """Find and open what `load_pairs` was given; files are opened later, while they are read.

    Raises:
        InputError: there is no such source, or it is damaged.
    """
    if not isinstance(source, (str, os.PathLike)):
        columns = tuple(source) if _is_columns(source) else ()
        return Source(_as_rows(source), GIVEN, columns=columns)
    path = user_path(source)
    exists = os.path.exists(path)  # noqa: PTH110
    if not exists and ":" in str(source) and (named := _with_split(str(source))):
        return named
    if is_toy(source):
        return Source(source, source)
    if is_saved_dataset(path):
        return Source(open_saved(path), str(path))
    if isinstance(source, str) and is_hub_name(source) and not exists:
        data, split, note = open_hub(source)
        return Source(data, source, note, split)
    guess = did_you_mean(source, SETS)
    if guess != "." and not exists:
        sets = ", ".join(SETS)
        raise InputError(f"{source}: there is no such file or toy set; the sets are {sets}{guess}")
    return Source(path, str(path))


def _with_split(source: str) -> Source | None:
    """Return the toy set or saved folder, with the split, that "name:split" names."""
    name, _, split = source.rpartition(":")
    if not split:
        return None
    if is_toy(name):
        return Source(name, name, split=split)
    path = user_path(name) if name else None
    if path and is_saved_dataset(path):
        return Source(open_saved(path), str(path), split=split)
    if path and path.is_file():
        raise InputError(f"{source}: a file has no splits; give {name}, without {':' + split!r}.")
    return None


def _as_rows(given: object) -> object:
    """Return rows, a `Dataset` or a dict of them unchanged, and columns as rows.

    Raises:
        InputError: the argument is none of these.
    """
    if is_dataset(given) or has_splits(given):
        return given
    for name, how in FRAMES.items():
        if hasattr(given, name) and hasattr(given, "columns"):
            return getattr(given, name)(*how)
    if isinstance(given, Mapping):
        return _columns_as_rows(given)
    if isinstance(given, (bytes, bytearray)):
        raise _not_data(given)
    if isinstance(given, Iterable):
        return given
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):  # such as torch's data sets
        return (given[i] for i in range(len(given)))
    raise _not_data(given)


def _not_data(given: object) -> InputError:
    return InputError(
        "data must be the name of a toy set, a file, a data set, or rows of pairs, not "
        f"{shown(given)}."
    )


def _columns_as_rows(given: Mapping) -> list[dict]:
    check_columns(GIVEN, given)
    columns = {name: given[name] for name in columns_to_read(given)}
    if not all(isinstance(c, Sized) and not isinstance(c, str) for c in columns.values()):
        raise InputError(
            f"{GIVEN} is a dict, but not of lists; to pass a single pair, put it in a list."
        )
    if len(set(map(len, columns.values()))) > 1:
        lengths = ", ".join(f"{name} {len(column):,}" for name, column in columns.items())
        raise InputError(f"{GIVEN}: its columns differ in length ({lengths}); make them equal.")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def is_toy(source: object) -> bool:
    """Return whether this is the name of a toy set."""
    return isinstance(source, str) and source in SETS


def has_splits(source: object) -> bool:
    """Return whether this is a `DatasetDict`, streamed or not."""
    return (
        isinstance(source, dict)
        and bool(source)
        and all(hasattr(part, "select_columns") for part in source.values())
    )


def is_dataset(source: object) -> bool:
    """Return whether this is a `Dataset`; importing the class to ask would take half a second."""
    return hasattr(source, "select_columns") and hasattr(source, "num_rows")


def is_stream(source: object) -> bool:
    """Return whether this is an `IterableDataset`."""
    return hasattr(source, "select_columns") and not hasattr(source, "num_rows")


def _is_columns(given: object) -> bool:
    return isinstance(given, Mapping) and not has_splits(given)
