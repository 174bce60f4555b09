"""Turn pairs into token ids, and token ids into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.conversations import Message, answer_text
from adadpo_mini.tokens.templates import encode_texts, prompt_texts
from adadpo_mini.types import Tokenizer

if TYPE_CHECKING:
    from adadpo_mini.pairs.load import Pairs

AT_ONCE = 1000  # pairs


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

    def to(self, device: torch.device) -> "PairBatch":
        """Return the batch on a device."""
        ids, mask = self.input_ids.to(device), self.completion_mask.to(device)
        return PairBatch(ids, mask, self.num_tokens)


@dataclass(frozen=True)
class TokenizedPair:
    """The token ids of a pair; completions end with the tokenizer's end-of-sequence token."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        """Tokens of the prompt and the longer completion."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def tokenize_completions(
    prompts: Sequence[str],
    completions: Sequence[str],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None = None,
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of each (prompt, completion), end token included.

    Prompt and completion are encoded together, as in TRL, because some tokenizers treat the start
    of a text specially. If that merges tokens across the border, the completion is encoded alone,
    as a model generates it.

    Args:
        messages: the conversation of each prompt, for a tokenizer with a chat template; None
            leaves it to `templates.chat_text`.
    """
    return _encode(prompts, [completions], tokenizer, messages)[0]


def _encode(
    prompts: Sequence[str],
    sides: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    messages: Sequence[Sequence[Message] | None] | None,
) -> list[list[tuple[list[int], list[int]]]]:
    """`tokenize_completions` of the same prompts with several sides; prompts are encoded once."""
    texts = prompt_texts(prompts, tokenizer, messages)
    prompt_ids = encode_texts(texts, tokenizer)
    encoded = []
    for side in sides:
        if tokenizer.chat_template:
            side = [answer_text(p, answer) for p, answer in zip(prompts, side, strict=True)]
        whole = [text + answer for text, answer in zip(texts, side, strict=True)]
        together = encode_texts(whole, tokenizer)
        # Tokens merge across the border if the whole does not begin with the prompt's tokens.
        merged = [i for i, ids in enumerate(prompt_ids) if together[i][: len(ids)] != ids]
        by_itself = encode_texts([side[i] for i in merged], tokenizer, from_start=False)
        alone = dict(zip(merged, by_itself, strict=True))
        rest = [alone.get(i, ids[len(prompt_ids[i]) :]) for i, ids in enumerate(together)]
        end = [tokenizer.eos_token_id]
        encoded.append([(ids, more + end) for ids, more in zip(prompt_ids, rest, strict=True)])
    return encoded


def tokenize_pairs(pairs: "Pairs", tokenizer: Tokenizer, context: int) -> list[TokenizedPair]:
    """Return the token ids of every pair, see `tokenize_completions`.

    Raises:
        InputError: a prompt and completion together exceed `context` tokens.
    """
    tokenized = list(iter_tokenized(pairs, tokenizer))
    for ids, where in zip(tokenized, pairs.where, strict=True):
        check_length(ids, where, context)
    return tokenized


def iter_tokenized(pairs: "Pairs", tokenizer: Tokenizer) -> Iterator[TokenizedPair]:
    """Yield the token ids of every pair, with the texts of 1,000 pairs in memory at a time."""
    for start in range(0, len(pairs), AT_ONCE):
        part = list(pairs[start : start + AT_ONCE])
        prompts = [pair["prompt"] for pair in part]
        messages = [pair.get("messages") for pair in part]
        sides = [[pair[side] for pair in part] for side in ("chosen", "rejected")]
        chosen, rejected = _encode(prompts, sides, tokenizer, messages)
        for row, (_, other) in zip(chosen, rejected, strict=True):
            yield TokenizedPair(*row, other)


def check_length(pair: TokenizedPair, where: str, context: int) -> None:
    """Raise an InputError if the pair is longer than the model's context."""
    if pair.length > context:
        raise InputError(
            f"{where}: the pair is {pair.length} tokens long but the model reads at most "
            f"{context}; shorten it, drop it, or use a model with a longer context."
        )


def make_batch(pairs: Sequence[TokenizedPair]) -> PairBatch:
    """Stack pairs into one batch, padded on the right to the longest row."""
    rows = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    input_ids, mask = stack_rows(rows)
    return PairBatch(input_ids, mask, sum(len(prompt) + len(rest) for prompt, rest in rows))


def stack_rows(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Return (input_ids, completion_mask) of rows of (prompt, completion), padded on the right.

    The padding is token 0; any other would do, because nothing reads it.
    """
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion)
        input_ids[i, :end] = torch.tensor(prompt + completion)
        mask[i, start:end] = 1
    return input_ids, mask
