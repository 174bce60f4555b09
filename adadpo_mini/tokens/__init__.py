"""Pairs as token ids: `templates.py` says what the model reads, `batch.py` makes the tensors."""

from adadpo_mini.tokens.batch import (
    PairBatch,
    TokenizedPair,
    make_batch,
    stack_rows,
    tokenize_completions,
    tokenize_pairs,
)

__all__ = [
    "PairBatch",
    "TokenizedPair",
    "make_batch",
    "stack_rows",
    "tokenize_completions",
    "tokenize_pairs",
]
