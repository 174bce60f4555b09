"""The slow measurements of a race: each costs as much as a few steps, so they are taken rarely.

At these numbers of prompts and pairs, and every 60 steps, they take about an eighth of its time;
`make bench` measures it.
"""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from adadpo_mini.mass import is_countable, mass_accounts, sampled_kl
from adadpo_mini.measure import displacement
from adadpo_mini.models import context_length
from adadpo_mini.pairs import Pairs, tokenize_pairs
from adadpo_mini.scoring import ScoredPairs
from adadpo_mini.trainer import Event, Trainer

MASS_PAIRS = 1
DISPLACEMENT_PAIRS = 2
KL_PROMPTS = 16
ENOUGH = 1000  # pairs to take those prompts from


class Meters:
    """Measures a policy on the first few held-out pairs.

    Args:
        reference: the model that the policy is compared with.
        pairs: held-out pairs.
        seed: of the answers that are sampled to estimate KL.
        **scoring: how the trainers score, as for `ScoredPairs`.
    """

    def __init__(self, reference, tokenizer, pairs: Pairs, seed: int, **scoring) -> None:
        self._reference, self._tokenizer, self._seed = reference, tokenizer, seed
        few = tokenize_pairs(pairs[:DISPLACEMENT_PAIRS], tokenizer, context_length(reference))
        self._tokenized = few
        self._scored = ScoredPairs(reference, few, **scoring)
        prompts = [pair["prompt"] for pair in pairs[:ENOUGH]]
        self._prompts = _alike_in_length(prompts, tokenizer)[:KL_PROMPTS]
        self._countable = [pair for pair in pairs[:MASS_PAIRS] if is_countable(pair)]

    def read(self, trainer: Trainer) -> Event:
        """What is known about the trainer's policy now.

        Returns:
            eval_kl: KL(π_θ‖π_ref), nats per completion, estimated; see `mass.sampled_kl`.
            eval_length: mean length of the answers sampled for it, tokens.
            mass/chosen, mass/rejected, mass/well_formed, mass/else: the mass ledger, averaged over
                a few pairs; only in the toy world.
            displacement/meter, displacement/threshold: to first order the chosen falls if the first
                exceeds the second; averaged over a few pairs. See `measure.displacement`.
        """
        model = trainer.model
        kl = sampled_kl(model, self._reference, self._tokenizer, self._prompts, seed=self._seed)
        weights = trainer.evaluate(self._scored.batch(range(len(self._tokenized))))
        event = {
            "eval_kl": kl.kl,
            "eval_length": kl.length,
            "displacement/meter": fmean(displacement(model, p).meter for p in self._tokenized),
            "displacement/threshold": weights["eval_ada/rho"],
        }
        if self._countable:
            accounts = [mass_accounts(model, self._tokenizer, pair) for pair in self._countable]
            for name in accounts[0]:
                event[f"mass/{name}"] = fmean(account[name] for account in accounts)
        return event


def _alike_in_length(prompts: Sequence[str], tokenizer) -> list[str]:
    """The different prompts of the commonest length: they are sampled as a single batch."""
    different = list(dict.fromkeys(prompts))
    lengths = [len(ids) for ids in tokenizer(different, verbose=False)["input_ids"]]
    commonest = Counter(lengths).most_common(1)[0][0]
    return [prompt for prompt, n in zip(different, lengths, strict=True) if n == commonest]
