"""Preference pairs: found, read, checked and parted.

Read `load.py` first. `rows.py` and `conversations.py` make a row into a pair, `screening.py` drops
what cannot be used, `readers.py` and `hub.py` read files and data sets.
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
