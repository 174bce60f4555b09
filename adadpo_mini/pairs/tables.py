"""Rows of Arrow tables: which columns are read, and without opening pictures and sound."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from adadpo_mini.pairs.columns import check_columns, is_media, layout_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from pyarrow import Array, ChunkedArray, RecordBatch, Table

MEDIA_FEATURES = ("Image(", "Audio(", "Video(")  # of the `datasets` library


def columns_to_read(columns: Iterable[str]) -> list[str]:
    """Return those of a table's columns that decide the pairs.

    >>> columns_to_read(["id", "question", "chosen", "rejected", "images"])
    ['question', 'chosen', 'rejected', 'images']
    """
    columns = tuple(columns)
    used = layout_of(columns).used
    return [name for name in columns if name in used]


def batch_rows(batch: "RecordBatch | Table") -> list[dict]:
    """Return the rows of a batch. Of pictures and the like they say only whether there is one."""
    media = [name for name in batch.schema.names if is_media(name)]
    rows = batch.drop_columns(media).to_pylist() if media else batch.to_pylist()
    for name in media:
        for row, found in zip(rows, _is_there(batch.column(name)), strict=True):
            row[name] = found
    return rows


def _is_there(column: "Array | ChunkedArray") -> list[bool]:
    """Return for each cell whether it has a value, and if it is a list or text, a value in it."""
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        found = compute.greater(compute.list_value_length(column), 0)
    elif pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        return column.to_pylist()
    else:
        found = compute.is_valid(column)
    return compute.fill_null(found, False).to_pylist()


def known_columns(table: "Dataset", name: str) -> tuple["Dataset", tuple[str, ...]]:
    """Return a data set with only the columns that decide the pairs, and the names of all.

    A column of pictures, sound or video, whose name may be anything, gets one that says what it is.

    Raises:
        InputError: it has no column chosen or rejected.
    """
    columns = table.column_names
    check_columns(name, columns)
    features = (table.features or {}).items()
    media = [n for n, kind in features if any(word in repr(kind) for word in MEDIA_FEATURES)]
    renamed = {n: f"{n} (image)" for n in media if not is_media(n)}
    if renamed:
        table = table.rename_columns(renamed)
    read = columns_to_read(table.column_names)
    names = tuple(name for name in columns if name not in renamed)
    return table.with_format(None).select_columns(read), names


def stream_rows(
    stream: "IterableDataset", name: str
) -> tuple[Iterator[tuple[int, dict]], tuple[str, ...]]:
    """Return (number, row) of a streamed data set, numbered from 1, and its columns, if known.

    Raises:
        InputError: as `known_columns`.
    """
    stream, columns = stream.with_format(None), ()
    if stream.column_names:
        if stream.features and hasattr(stream, "decode"):
            stream = stream.decode(False)
        stream, columns = known_columns(stream, name)
    return enumerate(stream, start=1), columns


def without_media(table: "Dataset") -> "Dataset":
    """Return a data set without its columns of pictures, sound and video."""
    return table.select_columns([name for name in table.column_names if not is_media(name)])
