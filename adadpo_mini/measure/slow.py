"""The slow measurements of a race. Each costs as much as a few steps, so a race takes them rarely.

With these numbers of prompts and pairs, taken every 60 steps, they use about an eighth of a race's
time, as `make bench` measures.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from threading import Lock
from typing import Any

from adadpo_mini.event import Event
from adadpo_mini.measure.batch import measure_batch
from adadpo_mini.measure.displacement import displacement
from adadpo_mini.measure.kl import sampled_kl
from adadpo_mini.measure.mass import (
    LONGEST_ANSWER,
    gives_both_answers,
    is_countable,
    mass_accounts,
)
from adadpo_mini.methods import BoundLoss
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.pairs.load import Pair, Pairs
from adadpo_mini.tokens.table import TokenTable
from adadpo_mini.types import Model, Tokenizer

MASS_PAIRS = 1
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
        self._scoring = scoring
        self._scored = ScoredPairs(reference, self._tokenized, **scoring)
        enough = tokenized[:ENOUGH]
        self._prompts = _alike_in_length([pair.prompt for pair in enough])
        longest = max(max(len(pair.chosen), len(pair.rejected)) for pair in enough)
        self._longest_answer = max(LONGEST_ANSWER, longest)
        self._countable = [pair for pair in pairs[:MASS_PAIRS] if self._can_count(pair)]

    def _can_count(self, pair: Pair) -> bool:
        return is_countable(pair) and gives_both_answers(self._reference, self._tokenizer, pair)

    def read(self, model: Model, loss: BoundLoss, *, untrained: bool = False) -> Event:
        """Return the slow measurements of a policy.

        Args:
            loss: the loss of its method.
            untrained: the policy is still the shared start, so one measurement serves all methods.

        Returns:
            eval_kl: KL(π_θ‖π_ref), nats per completion, estimated by `kl.sampled_kl`.
            eval_length: mean length, in tokens, of the answers sampled for the KL. They are cut off
                at a length that no held-out completion and no answer of the toy world exceeds.
            mass/chosen, mass/rejected, mass/well_formed, mass/else: the mass ledger, averaged over
                a few pairs; only for a model trained on the toy world.
            displacement/meter, displacement/threshold: the chosen falls, to first order, if the
                meter exceeds the threshold; averaged over a few pairs. See `displacement.py`.
        """
        if untrained:
            with self._lock:
                self._at_start = self._at_start or self._measure(model)
                measured = self._at_start
        else:
            measured = self._measure(model)
        scored = self._scored.batch(range(len(self._tokenized)))
        pairs = measure_batch(model, loss, scored, **self._scoring)
        return {**measured, "displacement/threshold": pairs["ada/rho"]}

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
        if self._countable:
            accounts = [mass_accounts(model, self._tokenizer, pair) for pair in self._countable]
            for name in accounts[0]:
                event[f"mass/{name}"] = fmean(account[name] for account in accounts)
        return event


def _alike_in_length(prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return a few distinct prompts, as token ids: of one length if enough of them are, so that
    they can be sampled in a single batch; else the first ones."""
    different = list(dict.fromkeys(map(tuple, prompts)))
    commonest = Counter(map(len, different)).most_common(1)[0][0]
    alike = [prompt for prompt in different if len(prompt) == commonest]
    return (alike if len(alike) >= KL_PROMPTS else different)[:KL_PROMPTS]
