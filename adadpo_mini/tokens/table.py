"""The token ids of a data set as two tensors, kept from one run to the next by `cache.py`.

Why not `datasets.Dataset.map` with our own fingerprint? It takes the same time (the tokenizer is
all of it, 0.12 s for 1,000 pairs) after 0.5 s for its import, and accepts a damaged cache
file: after one flipped bit it returns other tokens. Here a checksum guards the file.
"""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from adadpo_mini.pairs.load import Pairs
from adadpo_mini.pairs.unusable import UnusableRow
from adadpo_mini.system.cache import code_key, digest, keep_tensors, kept_tensors
from adadpo_mini.tokens.batch import TokenizedPair, iter_tokenized, too_long
from adadpo_mini.tokens.rendering import PROBE, ChatTemplate
from adadpo_mini.types import Tokenizer

TOKENISING = (
    "tokens/batch",
    "tokens/templates",
    "tokens/rendering",
    "tokens/special",
    "pairs/conversations",
)  # the modules that decide the ids
AS_IS, UNREASONED, DROPPED = 0, 1, 2  # what became of a pair


@dataclass(frozen=True, eq=False)
class TokenTable(Sequence[TokenizedPair]):
    """N tokenised pairs as two tensors; a `TokenizedPair` is made on access.

    Attributes:
        ids: all token ids, pair after pair: prompt, chosen, rejected; int32.
        ends: where each of these ends in `ids`, shape (N, 3), int64.
    """

    ids: Tensor
    ends: Tensor

    @classmethod
    def of(cls, pairs: Iterable[TokenizedPair]) -> "TokenTable":
        """Pack tokenised pairs into a table."""
        ids, ends = array("i"), array("q")
        for pair in pairs:
            for part in (pair.prompt, pair.chosen, pair.rejected):
                ids.extend(part)
                ends.append(len(ids))
        return cls(_tensor_of(ids, torch.int32), _tensor_of(ends, torch.int64).reshape(-1, 3))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int | slice) -> TokenizedPair | list[TokenizedPair]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start = int(self.ends[index - 1, 2]) if index else 0
        prompt, chosen, rejected = self.ends[index].tolist()
        return TokenizedPair(
            self.ids[start:prompt].tolist(),
            self.ids[prompt:chosen].tolist(),
            self.ids[chosen:rejected].tolist(),
        )

    @property
    def lengths(self) -> Tensor:
        """Lengths of prompt, chosen and rejected of each pair in tokens, shape (N, 3)."""
        ends = self.ends.reshape(-1)
        return ends.diff(prepend=ends.new_zeros(1)).reshape(-1, 3)


def tokens_that_fit(
    pairs: Pairs, tokenizer: Tokenizer, context: int, strict: bool
) -> tuple[TokenTable, Tensor, list[str]]:
    """Return (tokens, states, reasons): the tokens of the pairs that fit, what became of each pair,
    and the reasons why pairs were dropped, from the cache if they are there.

    A state is `AS_IS`, `UNREASONED`, or `DROPPED` plus the index of the reason.
    """
    name = tokens_key(pairs, tokenizer, context, strict)
    found = name and kept_tensors(name, lambda kept: _is_table_of(kept, len(pairs), strict))
    if not found:
        states, reasons = array("B"), {}
        tokens = TokenTable.of(_fitting(pairs, tokenizer, context, strict, states, reasons))
        found = {
            "states": _tensor_of(states, torch.uint8),
            "reasons": _tensor_of(array("B", "\n".join(reasons).encode()), torch.uint8),
            **vars(tokens),
        }
        if name:
            keep_tensors(name, found)
    tokens = TokenTable(found["ids"], found["ends"])
    return tokens, found["states"], _reasons_in(found["reasons"])


def _reasons_in(written: Tensor) -> list[str]:
    return bytes(written.tolist()).decode(errors="replace").splitlines()


def _fitting(
    pairs: Pairs,
    tokenizer: Tokenizer,
    context: int,
    strict: bool,
    states: array,
    reasons: dict[str, int],
) -> Iterator[TokenizedPair]:
    """Yield the pairs that fit, and add what became of each pair to `states` and `reasons`."""
    for where, ids in zip(pairs.where, iter_tokenized(pairs, tokenizer), strict=True):
        fault = ids if isinstance(ids, UnusableRow) else too_long(ids, where, context)
        if not fault:
            states.append(UNREASONED if ids.unreasoned else AS_IS)
            yield ids
        elif strict:
            raise fault
        else:
            states.append(DROPPED + reasons.setdefault(fault.reason, len(reasons)))


def _is_table_of(tensors: Mapping[str, Tensor], count: int, strict: bool) -> bool:
    """Return whether the tensors can be the tokens of this many pairs."""
    if {name: tensor.dtype for name, tensor in tensors.items()} != {
        "ids": torch.int32, "ends": torch.int64, "states": torch.uint8, "reasons": torch.uint8,
    }:  # fmt: skip
        return False
    ids, ends, states = (tensors[name] for name in ("ids", "ends", "states"))
    kept = int(states.lt(DROPPED).sum())
    if states.shape != (count,) or ends.shape != (kept, 3) or (strict and kept < count):
        return False
    if count and states.max() >= DROPPED + len(_reasons_in(tensors["reasons"])):
        return False
    return len(ids) == (ends[-1, 2] if len(ends) else 0)


def tokens_key(pairs: Pairs, tokenizer: Tokenizer, context: int, strict: bool = True) -> str | None:
    """Return the name of these pairs' tokens in the cache, or None if it cannot be known.

    It is a digest of the texts and of everything that decides their tokens: tokenizer, template,
    libraries, our code, and which pairs are taken. It cannot be known for a tokenizer without a
    serialisable backend, or a template that may write a date but rejects a plain question.
    """
    import tokenizers
    import transformers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:  # a rendered question shows the template's special tokens, and today's date if it has one
        rendered = tokenizer.chat_template and ChatTemplate(tokenizer).render(PROBE)
    except Exception:  # for example, it requires a system message
        return None
    # Padding and truncation are the last caller's; we use neither.
    own = {**json.loads(backend.to_str()), "padding": None, "truncation": None}
    rest = (
        tokenizer.eos_token_id,
        tokenizer.chat_template,
        rendered,
        (context, strict, code_key(*TOKENISING)),
        (transformers.__version__, tokenizers.__version__),
    )
    texts = (json.dumps(dict(pair)) for pair in pairs)
    return f"tokens-{digest(chain([json.dumps(own), json.dumps(rest)], texts))}"


def _tensor_of(numbers: array, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(numbers, dtype=dtype) if numbers else torch.empty(0, dtype=dtype)
