"""Long cells in CSV files: Python's limit, raised for a while."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_CELL = 1 << 27  # characters; the default of 131,072 is fewer than a long answer has


@contextmanager
def long_cells() -> Iterator[None]:
    """Let `csv` read cells of up to `LONGEST_CELL` characters in here.

    The limit is one for the whole process, and other readers rely on the usual one.
    """
    before = csv.field_size_limit()
    csv.field_size_limit(max(before, LONGEST_CELL))
    try:
        yield
    finally:
        csv.field_size_limit(before)
