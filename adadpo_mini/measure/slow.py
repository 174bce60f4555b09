"""The slow measurements of a race. Each costs as much as a few steps, so a race takes them rarely.

With these numbers of prompts and pairs, taken every 60 steps, they use about an eighth of a race's
time, as `make bench` measures.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf, isfinite
from statistics import fmean
from threading import Lock
from typing import Any

import torch

from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.batch import BatchLoss, batch_loss
from adadpo_mini.measure.displacement import displacement, thresholds
from adadpo_mini.measure.kl import sampled_kl
from adadpo_mini.measure.ledgers import Ledgers
from adadpo_mini.measure.mass import LONGEST_ANSWER
from adadpo_mini.methods import BoundLoss
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.tokens.table import TokenTable
from adadpo_mini.types import Model, Tokenizer

DISPLACEMENT_PAIRS = 2
KL_PROMPTS = 8
ENOUGH = 1000  # pairs from which these prompts are taken


class SlowMeasurements:
    """Slow measurements of a policy on the first few held-out pairs.

    Args:
        reference: the model to compare the policy with.
        pairs: held-out pairs. tokenized: the same pairs as token ids.
        seed: seed of the answers sampled to estimate the KL.
        **scoring: `logps` and `pairs_at_once`, as in `ScoredPairs`.
    """

    def __init__(
        self,
        reference: Model,
        tokenizer: Tokenizer,
        pairs: Pairs,
        tokenized: TokenTable,
        seed: int,
        **scoring: Any,
    ) -> None:
        self._reference, self._tokenizer, self._seed = reference, tokenizer, seed
        self._lock, self._at_start = Lock(), None
        self._tokenized = tokenized[:DISPLACEMENT_PAIRS]
        self._scoring = scoring.get("logps", completion_logps), scoring.get("pairs_at_once")
        self._scored = ScoredPairs(reference, self._tokenized, **scoring)
        enough = tokenized[:ENOUGH]
        self._prompts = _alike_in_length([pair.prompt for pair in enough])
        longest = max(max(len(pair.chosen), len(pair.rejected)) for pair in enough)
        self._longest_answer = max(LONGEST_ANSWER, longest)
        self._ledgers = Ledgers(reference, tokenizer, pairs[:ENOUGH])

    def read(self, model: Model, loss: BoundLoss, *, untrained: bool = False) -> Event:
        """Return the slow measurements of a policy.

        Args:
            loss: the loss of its method.
            untrained: the policy is still the shared start, so one measurement serves all methods.

        Returns:
            eval_kl: KL(π_θ‖π_ref), nats per completion, estimated by `kl.sampled_kl`.
            eval_length: mean length, in tokens, of the answers sampled for the KL. They are cut off
                at a length that no held-out completion and no answer of the toy world exceeds.
            mass/…: the mass ledgers of a few prompts, see `Ledgers.read`; only for a model trained
                on the toy world.
            displacement/meter, displacement/threshold: if a step of gradient descent used one pair
                alone, it would lower the chosen, to first order, where the meter exceeds the
                threshold; both are means over a few pairs. See `displacement.py`. What the real
                update does, with AdamW and all pairs of the batch, is `update/…`, see `watch`.
        """
        if untrained:
            with self._lock:
                self._at_start = self._at_start or self._measure(model)
                measured = self._at_start
        else:
            measured = self._measure(model)
        limits = [limit for limit in thresholds(self._pairs(model, loss)) if isfinite(limit)]
        return {**measured, "displacement/threshold": fmean(limits) if limits else inf}

    def watch(self, model: Model, loss: BoundLoss) -> Callable[[], Event]:
        """Begin to watch an update of the policy; call the result after the update.

        Returns:
            update/chosen, update/rejected: how much the update changes log π of the two sides, mean
            over the pairs of the displacement meter, nats per completion. The model is not trained
            on these pairs, so this is what the batch, through AdamW, does to others.
        """
        before = self._pairs(model, loss)

        def changes() -> Event:
            after = self._pairs(model, loss)
            return {
                "update/chosen": (after.chosen_logps - before.chosen_logps).mean().item(),
                "update/rejected": (after.rejected_logps - before.rejected_logps).mean().item(),
            }

        return changes

    @torch.no_grad()
    def _pairs(self, model: Model, loss: BoundLoss) -> BatchLoss:
        """Return the loss on the pairs of the displacement meter."""
        batch, (logps, at_once) = self._scored.batch(range(len(self._tokenized))), self._scoring
        parts = batch.parts(at_once)
        return BatchLoss.join([batch_loss(model, loss, part, logps=logps) for part in parts])

    def _measure(self, model: Model) -> Event:
        kl = sampled_kl(
            model,
            self._reference,
            self._prompts,
            self._tokenizer.eos_token_id,
            seed=self._seed,
            max_new_tokens=self._longest_answer,
        )
        event = {
            "eval_kl": kl.kl,
            "eval_length": kl.length,
            "displacement/meter": fmean(displacement(model, p).meter for p in self._tokenized),
        }
        return {**event, **self._ledgers.read(model)}


def _alike_in_length(prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return a few distinct prompts, as token ids: of one length if enough of them are, so that
    they can be sampled in a single batch; else the first ones."""
    different = list(dict.fromkeys(map(tuple, prompts)))
    commonest = Counter(map(len, different)).most_common(1)[0][0]
    alike = [prompt for prompt in different if len(prompt) == commonest]
    return (alike if len(alike) >= KL_PROMPTS else different)[:KL_PROMPTS]
