"""Batches of pairs with what the reference thinks of them, computed once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.tokens import PairBatch, TokenizedPair, make_batch

Logps = Callable[[object, Tensor, Tensor], Tensor]
"""(model, input_ids, completion_mask) → log-probs of the completions, as `completion_logps`."""


@dataclass(frozen=True)
class ScoredBatch:
    """A batch of B pairs with their log-probs under the reference, each of shape (B,), nats."""

    rows: PairBatch
    ref_chosen_logps: Tensor
    ref_rejected_logps: Tensor

    def __len__(self) -> int:
        return len(self.ref_chosen_logps)

    def parts(self, size: int | None) -> Iterator["ScoredBatch"]:
        """The batch in parts of at most `size` pairs; whole if that is None."""
        if size is None or size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            here = slice(start, start + size)
            ref_logps = (self.ref_chosen_logps[here], self.ref_rejected_logps[here])
            yield ScoredBatch(take_pairs(self.rows, here), *ref_logps)


def take_pairs(rows: PairBatch, here: slice) -> PairBatch:
    """Some pairs of a batch, without the padding that only the others needed."""
    ids, mask = (
        torch.cat([side[here] for side in both.chunk(2)])
        for both in (rows.input_ids, rows.completion_mask)
    )
    width = int(mask.any(dim=0).nonzero().max()) + 1
    ends = mask.shape[1] - mask.flip(1).argmax(dim=1)
    return PairBatch(ids[:, :width], mask[:, :width], int(ends.sum()))


class ScoredPairs:
    """Tokenised pairs whose log-probs under the reference are computed once, when first asked for.

    A pair is scored together with the batch in which it is first trained on. So an untrained
    policy's log-probs equal the reference's to the last bit, whatever the machine's matrix
    kernels do with batches of different shapes, and u = 0 and ρ = 1 hold exactly at step 0.

    Args:
        logps, pairs_at_once: as for the trainers that will train on the pairs.
        known: scores from an earlier run, shape (2, pairs), NaN where there are none.

    Attributes:
        scores: log-probs of chosen and rejected under the reference, shape (2, pairs), nats; NaN
            where nobody has asked yet.
    """

    def __init__(
        self,
        reference,
        pairs: Sequence[TokenizedPair],
        *,
        logps: Logps = completion_logps,
        pairs_at_once: int | None = None,
        known: Tensor | None = None,
    ) -> None:
        self.pairs = pairs
        self.scores = torch.full((2, len(pairs)), torch.nan) if known is None else known.clone()
        self._reference = reference
        self._logps = logps
        self._pairs_at_once = pairs_at_once

    def __len__(self) -> int:
        return len(self.pairs)

    @torch.no_grad()
    def batch(self, indices: Sequence[int]) -> ScoredBatch:
        """The pairs at these indices, as a batch on the reference's device."""
        device = self._reference.device
        rows = make_batch([self.pairs[i] for i in indices]).to(device)
        known = self.scores[:, indices]
        if known.isnan().any():
            known = torch.where(known.isnan(), self._score(ScoredBatch(rows, *known)).cpu(), known)
            self.scores[:, indices] = known
        chosen, rejected = known.to(device)
        return ScoredBatch(rows, chosen, rejected)

    def _score(self, batch: ScoredBatch) -> Tensor:
        """Log-probs under the reference, shape (2, B)."""
        scored = [
            self._logps(self._reference, part.rows.input_ids, part.rows.completion_mask)
            for part in batch.parts(self._pairs_at_once)
        ]
        return torch.cat([logps.view(2, -1).float() for logps in scored], dim=1)
