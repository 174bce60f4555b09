"""Pairs as token ids, one by one and in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adadpo_mini.errors import InputError

if TYPE_CHECKING:
    from adadpo_mini.pairs import Pairs


@dataclass(frozen=True)
class PairBatch:
    """B pairs as 2·B right-padded rows: all chosen first, then all rejected, in the same order.

    Attributes:
        input_ids: prompt, completion, padding, shape (2B, time).
        completion_mask: 1 on the completion's tokens, end token included, shape (2B, time).
        num_tokens: tokens in all rows, padding not counted.
    """

    input_ids: Tensor
    completion_mask: Tensor
    num_tokens: int

    @property
    def lengths(self) -> Tensor:
        """Completion lengths in tokens, shape (2B,)."""
        return self.completion_mask.sum(dim=1)


@dataclass(frozen=True)
class TokenizedPair:
    """The token ids of a pair; completions end with the tokenizer's end-of-sequence token."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def tokenize_completions(
    prompts: Sequence[str], completions: Sequence[str], tokenizer
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each (prompt, completion), the end token included.

    Prompt and completion are encoded together, as TRL does, so that a tokenizer that treats the
    start of a text specially does not do so in the middle; where that would merge tokens across
    the border, the completion is encoded alone, which is how a model generates it.
    """
    quiet = {"verbose": False}  # what is too long is told by `tokenize_pairs`, with its line
    both = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    prompt_ids = tokenizer(list(prompts), **quiet)["input_ids"]
    together = tokenizer(both, **quiet)["input_ids"]
    alone = tokenizer(list(completions), add_special_tokens=False, **quiet)["input_ids"]
    end = [tokenizer.eos_token_id]
    return [
        (prompt, (ids[len(prompt) :] if ids[: len(prompt)] == prompt else rest) + end)
        for prompt, ids, rest in zip(prompt_ids, together, alone, strict=True)
    ]


def tokenize_pairs(pairs: "Pairs", tokenizer, context: int) -> list[TokenizedPair]:
    """Token ids of every pair, see `tokenize_completions`.

    Raises:
        InputError: a prompt and completion exceed `context` tokens together.
    """
    prompts = [pair["prompt"] for pair in pairs]
    chosen, rejected = (
        tokenize_completions(prompts, [pair[side] for pair in pairs], tokenizer)
        for side in ("chosen", "rejected")
    )
    tokenized = [
        TokenizedPair(*row, other) for row, (_, other) in zip(chosen, rejected, strict=True)
    ]
    for ids, where in zip(tokenized, pairs.where, strict=True):
        longest = len(ids.prompt) + max(len(ids.chosen), len(ids.rejected))
        if longest > context:
            raise InputError(
                f"{where}: the pair is {longest} tokens long but the model reads at most "
                f"{context}; shorten it, drop it, or use a model with a longer context."
            )
    return tokenized


def make_batch(pairs: Sequence[TokenizedPair]) -> PairBatch:
    """Stack pairs into one batch, padded on the right to the longest row."""
    rows = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    input_ids, mask = stack_rows(rows)
    return PairBatch(input_ids, mask, sum(len(prompt) + len(rest) for prompt, rest in rows))


def stack_rows(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """(input_ids, completion_mask) of rows of (prompt, completion), padded on the right.

    Which token pads does not matter, since nothing ever looks at it; it is token 0.
    """
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion)
        input_ids[i, :end] = torch.tensor(prompt + completion)
        mask[i, start:end] = 1
    return input_ids, mask
