"""A small closed world of everyday requests, in which all answers can be listed.

Read `grammar.py` first (the prompts and their answers), then `sets.py` (the preference pairs),
`judge.py` (which answer is better) and `pretrain.py` (corpus, tokenizer and base model).
"""

from pathlib import Path


def data_dir() -> Path:
    """Return the folder of the toy data sets and model: in the wheel, or `data/` in a clone."""
    package = Path(__file__).resolve().parents[1]
    in_wheel = package / "data"
    return in_wheel if in_wheel.is_dir() else package.parent / "data"
