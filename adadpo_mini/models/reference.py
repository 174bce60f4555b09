"""Batches of pairs with their log-probs under the reference, which are computed only once."""

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.system.cache import code_key, digest, keep_tensors, kept_tensors
from adadpo_mini.tokens.batch import PairBatch, TokenizedPair, make_batch
from adadpo_mini.tokens.table import TokenTable
from adadpo_mini.types import Model

SCORING = ("logprobs", "models/reference", "models/shared_prompt", "models/load", "tokens/batch")
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
        """Yield the batch in parts of at most `size` pairs; None means in one part."""
        if size is None or size >= len(self):
            yield self
            return
        for start in range(0, len(self), size):
            here = slice(start, start + size)
            ref_logps = (self.ref_chosen_logps[here], self.ref_rejected_logps[here])
            yield ScoredBatch(take_pairs(self.rows, here), *ref_logps)


def take_pairs(rows: PairBatch, here: slice) -> PairBatch:
    """Return some pairs of a batch, without the padding that only the others needed."""
    ids, mask = (
        torch.cat([side[here] for side in both.chunk(2)])
        for both in (rows.input_ids, rows.completion_mask)
    )
    width = int(mask.any(dim=0).nonzero().max()) + 1
    ends = mask.shape[1] - mask.flip(1).argmax(dim=1)
    return PairBatch(ids[:, :width], mask[:, :width], int(ends.sum()))


class ScoredPairs:
    """Tokenised pairs whose log-probs under the reference are computed once, at first use.

    A pair is scored in the batch in which it is first trained on. So an untrained policy's
    log-probs equal the reference's to the last bit, whatever the machine's matrix kernels do with
    batches of different shapes, and u = 0 and ρ = 1 hold exactly at step 0.

    Args:
        logps, pairs_at_once: as for the trainers that will train on the pairs.
        known: scores from an earlier run, shape (2, pairs), NaN if unknown.

    Attributes:
        scores: log-probs of chosen and rejected under the reference, shape (2, pairs), nats; NaN
            for pairs that were never in a batch.
    """

    def __init__(
        self,
        reference: Model,
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
        """Return the pairs at these indices, as a batch on the reference's device."""
        device = self._reference.device
        rows = make_batch([self.pairs[i] for i in indices]).to(device)
        known = self.scores[:, indices]
        if known.isnan().any():
            known = torch.where(known.isnan(), self._score(ScoredBatch(rows, *known)).cpu(), known)
            self.scores[:, indices] = known
        chosen, rejected = known.to(device)
        return ScoredBatch(rows, chosen, rejected)

    def _score(self, batch: ScoredBatch) -> Tensor:
        """Return log-probs under the reference, shape (2, B), nats."""
        scored = [
            self._logps(self._reference, part.rows.input_ids, part.rows.completion_mask)
            for part in batch.parts(self._pairs_at_once)
        ]
        return torch.cat([logps.view(2, -1).float() for logps in scored], dim=1)


class RefScores:
    """Log-probs of pairs under the reference, kept from one run to the next.

    Args:
        pairs: the tokenised pairs.
        reference: the model.
        **how: everything else that the last bit of a score depends on, such as the batch size.

    Attributes:
        name: a digest of the arguments, the machine, the libraries and our code.
    """

    def __init__(self, pairs: Sequence[TokenizedPair], reference: Model, **how: object) -> None:
        import transformers

        tokens = pairs if isinstance(pairs, TokenTable) else TokenTable.of(pairs)
        machine = (torch.backends.cpu.get_cpu_capability(), platform.machine())
        rest = (torch.__version__, transformers.__version__, machine, how, code_key(*SCORING))
        parts = (tokens.ids, tokens.ends, model_key(reference), json.dumps(rest, sort_keys=True))
        self.name = f"scores-{digest(parts)}"
        self._shape = (2, len(tokens))

    def load(self) -> Tensor | None:
        """Return the known log-probs of chosen and rejected, shape (2, pairs), nats, else NaN.

        None if nothing is known.
        """
        found = kept_tensors(self.name, self._fits)
        return found and found["scores"]

    def save(self, scores: Tensor) -> None:
        """Keep these scores, shape (2, pairs), NaN if unknown, and fill gaps from earlier ones."""
        scores = scores.detach().float().cpu()
        known = self.load()
        if known is not None:
            scores = torch.where(scores.isnan(), known, scores)
        keep_tensors(self.name, {"scores": scores.contiguous()})

    def _fits(self, tensors: Mapping[str, Tensor]) -> bool:
        scores = tensors.get("scores", torch.empty(0))
        return scores.shape == self._shape and scores.dtype == torch.float32


def model_key(model: Model) -> str:
    """Return a digest of a model: configuration, attention, weights, their types and device."""
    where_from = ("_name_or_path", "transformers_version")
    own = {k: v for k, v in model.config.to_dict().items() if k not in where_from}
    attention = getattr(model.config, "_attn_implementation", None)
    head = (type(model).__name__, model.device.type, attention, own)
    weights = chain.from_iterable(sorted(model.state_dict().items()))
    return digest(chain([json.dumps(head, sort_keys=True, default=str)], weights))
