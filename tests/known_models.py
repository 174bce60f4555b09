"""Language models whose probabilities can all be computed by hand."""

from types import SimpleNamespace

import torch
from torch import Tensor
from transformers import PretrainedConfig

CERTAIN = 30.0  # a score beside which e^0 has no weight


class Known(torch.nn.Module):
    """A causal model as the package uses it; a subclass defines the scores of the next token."""

    def __init__(self, vocabulary: int, context: int = 1024) -> None:
        super().__init__()
        self.config = PretrainedConfig(vocab_size=vocabulary, max_position_embeddings=context)
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def scores_after(self, ids: Tensor) -> Tensor:
        """Scores of the token after each position, shape (rows, time, vocabulary)."""
        raise NotImplementedError

    def forward(
        self, input_ids, past_key_values=None, use_cache=False, logits_to_keep=0
    ) -> SimpleNamespace:
        ids = input_ids if past_key_values is None else torch.cat([past_key_values, input_ids], 1)
        kept = logits_to_keep or input_ids.shape[1]
        logits = self.scores_after(ids)[:, -kept:]
        return SimpleNamespace(logits=logits, past_key_values=ids if use_cache else None)


class Bigram(Known):
    """The next token depends on the last one alone.

    Args:
        scores: after token i the next one is drawn from softmax(scores[i % len(scores)]).
    """

    def __init__(self, scores: Tensor) -> None:
        super().__init__(scores.shape[1])
        self.scores = torch.nn.Parameter(scores)

    def scores_after(self, ids: Tensor) -> Tensor:
        return self.scores[ids % len(self.scores)]


class Parrot(Known):
    """Answers every prompt of the toy world with one of a few texts.

    Args:
        shares: the probability of each text; the rest is spread over all first tokens.
    """

    def __init__(self, tokenizer, shares: dict[str, float]) -> None:
        super().__init__(len(tokenizer))
        (self.line_end,) = tokenizer("\n")["input_ids"]
        texts = tokenizer([*shares])["input_ids"]
        self.texts = [torch.tensor([*ids, tokenizer.eos_token_id]) for ids in texts]
        first = torch.full((len(tokenizer),), (1 - sum(shares.values())) / len(tokenizer))
        for ids, share in zip(self.texts, shares.values(), strict=True):
            first[ids[0]] += share
        self.first = first.log()

    def scores_after(self, ids: Tensor) -> Tensor:
        scores = torch.zeros(*ids.shape, self.config.vocab_size)
        for row, (tokens, end) in enumerate(zip(ids, self._ends(ids), strict=True)):
            scores[row, end] = self.first
            for text in self.texts:
                count = min(len(text), ids.shape[1] - end) - 1
                if count > 0 and tokens[end + 1] == text[0]:
                    at = torch.arange(count)
                    scores[row, end + 1 + at, text[1 + at]] = CERTAIN
        return scores

    def _ends(self, ids: Tensor) -> list[int]:
        """Where the prompt of each row ends."""
        return (ids == self.line_end).int().argmax(dim=1).tolist()
