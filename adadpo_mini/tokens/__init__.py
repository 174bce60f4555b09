"""Pairs as token ids.

`templates.py` writes the text that a model reads for a prompt and its answers, with `rendering.py`
for chat templates and `special.py` for special tokens; `batch.py` turns pairs into token ids and
batches, `table.py` keeps the token ids of a whole data set, and `fitting.py` drops the pairs that a
model cannot be trained on. `typed.py` shortens a question that somebody types.
"""

from adadpo_mini.tokens.batch import (
    PairBatch,
    TokenizedPair,
    iter_tokenized,
    make_batch,
    stack_rows,
    tokenize_completions,
    tokenize_pairs,
)

__all__ = [
    "PairBatch",
    "TokenizedPair",
    "iter_tokenized",
    "make_batch",
    "stack_rows",
    "tokenize_completions",
    "tokenize_pairs",
]
