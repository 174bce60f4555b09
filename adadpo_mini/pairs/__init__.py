"""Preference pairs: find, read, check and split them.

Read `load.py` first. `rows.py` and `conversations.py` turn a row into a pair, `screening.py` drops
rows that cannot be used, `sources.py`, `readers.py` and `hub.py` open and read what is given, and
`on_disk.py` keeps large data out of memory.
"""

from adadpo_mini.pairs.load import (
    LoadReport,
    Message,
    Pair,
    Pairs,
    load_pairs,
    load_splits,
    split_pairs,
)

__all__ = [
    "LoadReport",
    "Message",
    "Pair",
    "Pairs",
    "load_pairs",
    "load_splits",
    "split_pairs",
]
