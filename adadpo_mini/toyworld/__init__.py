"""A closed little world of everyday help, small enough that every answer in it can be counted.

Read `grammar.py` first (what can be asked and answered), then `sets.py` (preference pairs) and
`pretrain.py` (the corpus, the tokenizer and the base model).
"""

from pathlib import Path


def data_dir() -> Path:
    """Where the toy data sets and the toy model lie: inside the wheel, or `data/` in a clone."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "data"
    return in_wheel if in_wheel.is_dir() else package.parent / "data"
