"""Pairs as token ids.

`templates.py` writes the text that a model reads for a prompt, `batch.py` turns pairs into token
ids and batches, and `table.py` keeps the token ids of a whole data set.
"""

from adadpo_mini.tokens.batch import (
    PairBatch,
    TokenizedPair,
    check_length,
    iter_tokenized,
    make_batch,
    stack_rows,
    tokenize_completions,
    tokenize_pairs,
)

__all__ = [
    "PairBatch",
    "TokenizedPair",
    "check_length",
    "iter_tokenized",
    "make_batch",
    "stack_rows",
    "tokenize_completions",
    "tokenize_pairs",
]
