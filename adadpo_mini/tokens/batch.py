"""Turn pairs into token ids, and token ids into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adadpo_mini.pairs.conversations import Message
from adadpo_mini.pairs.screening import TOO_LONG
from adadpo_mini.pairs.unusable import UnusableRow
from adadpo_mini.tokens.rendering import Written
from adadpo_mini.tokens.templates import encode_texts, written_texts
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
    """The token ids of a pair; completions end with the tokenizer's end-of-sequence token.

    Attributes:
        unreasoned: the chat template left the reasoning out of an answer.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    unreasoned: bool = field(default=False, compare=False)

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
            leaves it to `templates.messages_of`.

    Raises:
        InputError: the chat template rejects a text, or was already applied to it.
    """
    found = list(written_texts(prompts, [completions], tokenizer, messages))
    for fault in found:
        if isinstance(fault, UnusableRow):
            raise fault
    return _encode(found, tokenizer)


def _encode(written: Sequence[Written], tokenizer: Tokenizer) -> list[tuple[list[int], ...]]:
    """Return (prompt, answer, …) of each as token ids; prompts are encoded once."""
    texts = [row.prompt for row in written]
    prompts = encode_texts(texts, tokenizer)
    end = [tokenizer.eos_token_id]
    columns = [prompts]
    for side in zip(*(row.answers for row in written), strict=True):
        whole = [text + answer for text, answer in zip(texts, side, strict=True)]
        together = encode_texts(whole, tokenizer)
        # Tokens merge across the border if the whole does not begin with the prompt's tokens.
        merged = [i for i, ids in enumerate(prompts) if together[i][: len(ids)] != ids]
        by_itself = encode_texts([side[i] for i in merged], tokenizer, from_start=False)
        alone = dict(zip(merged, by_itself, strict=True))
        rest = (alone.get(i, ids[len(prompts[i]) :]) for i, ids in enumerate(together))
        columns.append([ids + end for ids in rest])
    return list(zip(*columns, strict=True))


def tokenize_pairs(pairs: "Pairs", tokenizer: Tokenizer, context: int) -> list[TokenizedPair]:
    """Return the token ids of every pair, see `tokenize_completions`.

    Raises:
        InputError: a prompt and completion together exceed `context` tokens, or a pair cannot be
            used with this tokenizer; see `iter_tokenized`.
    """
    tokenized = []
    for ids, where in zip(iter_tokenized(pairs, tokenizer), pairs.where, strict=True):
        fault = ids if isinstance(ids, UnusableRow) else too_long(ids, where, context)
        if fault:
            raise fault
        tokenized.append(ids)
    return tokenized


def iter_tokenized(pairs: "Pairs", tokenizer: Tokenizer) -> Iterator[TokenizedPair | UnusableRow]:
    """Yield the token ids of every pair, with the texts of 1,000 pairs in memory at a time.

    In place of a pair that cannot be used with this tokenizer, its error is yielded: the chat
    template rejects it, leaves out a part of it, or was already applied to it, or both answers
    have the same tokens.
    """
    for start in range(0, len(pairs), AT_ONCE):
        part = list(pairs[start : start + AT_ONCE])
        places = pairs.where[start : start + AT_ONCE]
        prompts = [pair["prompt"] for pair in part]
        messages = [pair.get("messages") for pair in part]
        sides = [[pair[side] for pair in part] for side in ("chosen", "rejected")]
        found = list(written_texts(prompts, sides, tokenizer, messages, places))
        usable = [row for row in found if not isinstance(row, UnusableRow)]
        encoded = iter(_encode(usable, tokenizer))
        for where, row in zip(places, found, strict=True):
            yield row if isinstance(row, UnusableRow) else _pair(where, row, *next(encoded))


def _pair(
    where: str, written: Written, prompt: list[int], chosen: list[int], rejected: list[int]
) -> TokenizedPair | UnusableRow:
    """Return the pair, or its error if there is nothing to prefer in it."""
    if chosen == rejected:
        return UnusableRow(
            f"{where}: the model reads chosen and rejected as the same tokens, so there is no "
            "preference; drop the pair.",
            "with answers that are equal for the model",
        )
    if len(chosen) == 1 or len(rejected) == 1:
        side = "chosen" if len(chosen) == 1 else "rejected"
        return UnusableRow(
            f"{where}: {side} has no text besides the end token; add text or drop the pair.",
            "with an answer that only ends",
        )
    return TokenizedPair(prompt, chosen, rejected, written.unreasoned)


def too_long(pair: TokenizedPair, where: str, context: int) -> UnusableRow | None:
    """Return the error if the pair is longer than the model's context."""
    if pair.length <= context:
        return None
    return UnusableRow(
        f"{where}: the pair is {pair.length} tokens long but the model reads at most {context}; "
        "shorten it, drop it, or use a model with a longer context.",
        TOO_LONG,
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
