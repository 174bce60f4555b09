"""The mass ledgers of a few held-out prompts, taken again and again during a race.

The probability of one prompt's answers says little about the next prompt's, so a race reports the
mean over several prompts, with their range.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean

import torch
from torch import Tensor

from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.answer_tree import AnswerTree, Completion, can_use_tree, tree_logps
from adadpo_mini.measure.mass import STRANGE, accounts, answer_logps, is_countable
from adadpo_mini.measure.mass import well_formed_answers_to as well_formed
from adadpo_mini.pairs.load import Pair
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from adadpo_mini.types import Model, Tokenizer

PROMPTS = 8


class Ledgers:
    """The mass ledgers of a few pairs with different prompts, ready to be taken of any policy.

    A pair is left out if the toy world does not list its answers, or if the reference was not
    trained on the toy world.

    Args:
        reference: decides this, and whether answers can share their beginnings.
        pairs: held-out pairs; the first ones that can be counted are used.
        prompts: how many.

    Attributes:
        pairs: the pairs that are used.
        tree: their answers, if they can share their beginnings.
    """

    def __init__(
        self,
        reference: Model,
        tokenizer: Tokenizer,
        pairs: Iterable[Pair],
        prompts: int = PROMPTS,
    ) -> None:
        self._tokenizer = tokenizer
        known = _first_countable(pairs, prompts)
        sides = [row for pair in known for row in self._rows(pair, _sides(pair))]
        likely = _mass(reference, sides).view(-1, 2).sum(dim=1) > STRANGE if known else []
        self.pairs = [pair for pair, usable in zip(known, likely, strict=True) if usable]
        self.tree = None
        if self.pairs and can_use_tree(reference, sides):
            self.tree = AnswerTree.grow(
                [row for pair in self.pairs for row in self._rows(pair, _texts(pair))]
            )

    def read(self, model: Model) -> Event:
        """Return the mean, the lowest and the highest of each account over the prompts.

        Returns:
            mass/chosen, mass/rejected, mass/well_formed, mass/else: the means, which sum to 1.
            mass/…/low and mass/…/high: the range over the prompts, of each of them.
            mass/prompts: the number of prompts. The event is empty if there are none.
        """
        if not self.pairs:
            return {}
        each = [
            accounts(pair, dict(zip(_texts(pair), mass.tolist(), strict=True)))
            for pair, mass in zip(self.pairs, self._masses(model), strict=True)
        ]
        event: Event = {"mass/prompts": len(each)}
        for name in each[0]:
            values = [ledger[name] for ledger in each]
            event[f"mass/{name}"] = fmean(values)
            event[f"mass/{name}/low"], event[f"mass/{name}/high"] = min(values), max(values)
        return event

    def _masses(self, model: Model) -> Iterable[Tensor]:
        """Return π(y|x) of all well-formed answers, prompt by prompt."""
        if self.tree is None:
            for pair in self.pairs:
                logps = answer_logps(model, self._tokenizer, pair["prompt"], _texts(pair))
                yield logps.double().exp()
        else:
            counts = [len(_texts(pair)) for pair in self.pairs]
            yield from tree_logps(model, self.tree).double().exp().split(counts)

    def _rows(self, pair: Pair, answers: list[str]) -> list[Completion]:
        return tokenize_completions([pair["prompt"]] * len(answers), answers, self._tokenizer)


def _first_countable(pairs: Iterable[Pair], count: int) -> list[Pair]:
    found: dict[str, Pair] = {}
    for pair in pairs:
        if len(found) == count:
            break
        if pair["prompt"] not in found and is_countable(pair):
            found[pair["prompt"]] = pair
    return list(found.values())


def _sides(pair: Mapping) -> list[str]:
    return [pair["chosen"], pair["rejected"]]


def _texts(pair: Pair) -> list[str]:
    return [answer.text for answer in well_formed(pair)]


@torch.no_grad()
def _mass(model: Model, rows: list[Completion]) -> Tensor:
    batch = (tensor.to(model.device) for tensor in stack_rows(rows))
    return completion_logps(model, *batch).exp().cpu()
