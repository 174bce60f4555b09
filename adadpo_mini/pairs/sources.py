"""What pairs can be loaded from: a toy set, a file, a data set, rows or columns."""

import os
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import NamedTuple

from adadpo_mini.errors import InputError, did_you_mean, shown
from adadpo_mini.pairs.hub import is_hub_name, is_saved_dataset, open_hub, open_saved
from adadpo_mini.pairs.readers import check_columns
from adadpo_mini.pairs.rows import FIELDS
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
    """

    data: object
    name: str
    note: str = ""


def open_source(source: str | Path | Iterable[dict]) -> Source:
    """Find and open what `load_pairs` was given; files are opened later, while they are read.

    Raises:
        InputError: there is no such source, or it is damaged.
    """
    if not isinstance(source, (str, os.PathLike)):
        return Source(_as_rows(source), GIVEN)
    if is_toy(source):
        return Source(source, source)
    path = user_path(source)
    if is_saved_dataset(path):
        return Source(open_saved(path), str(path))
    if isinstance(source, str) and is_hub_name(source) and not os.path.exists(path):  # noqa: PTH110
        data, note = open_hub(source)
        return Source(data, source, note)
    guess = did_you_mean(source, SETS)
    if guess != "." and not os.path.exists(path):  # noqa: PTH110
        sets = ", ".join(SETS)
        raise InputError(f"{source}: there is no such file or toy set; the sets are {sets}{guess}")
    return Source(path, str(path))


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
    if isinstance(given, Iterable) and not isinstance(given, (bytes, bytearray)):
        return given
    raise InputError(
        f"data must be the name of a toy set, a file, a data set, or rows of pairs, not "
        f"{shown(given)}."
    )


def _columns_as_rows(given: Mapping) -> list[dict]:
    check_columns(GIVEN, given)
    columns = {name: given[name] for name in FIELDS if name in given}
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
