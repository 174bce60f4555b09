"""Where the probability of the answers to one prompt goes: the mass ledger.

The toy world lists every well-formed answer to a prompt, so you can see exactly where the
probability goes that the chosen and the rejected lose. It is the probability under π itself, that
is at temperature 1. `ledgers.py` takes the ledgers of several prompts during a race.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.pairs.load import Pair
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from adadpo_mini.toyworld.grammar import Answer, find_topic, well_formed_answers
from adadpo_mini.types import Model, Tokenizer

STRANGE = 1e-9  # if the toy world's answers are less probable, the model was not trained on it
ROWS_AT_ONCE = 48
LONGEST_ANSWER = 80  # tokens; every well-formed answer of the toy world is shorter


def answer_logps(model: Model, tokenizer: Tokenizer, prompt: str, answers: Sequence[str]) -> Tensor:
    """Return log π(y|x) of many answers to one prompt, end token included, nats, shape (answers,).

    Each text is scored as the tokens that the tokenizer splits it into. A model can also produce
    the text from other tokens; that probability is not included.
    """
    rows = tokenize_completions([prompt] * len(answers), answers, tokenizer)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][1]))  # less padding
    logps = torch.empty(len(rows))
    with torch.no_grad():
        for start in range(0, len(order), ROWS_AT_ONCE):
            part = order[start : start + ROWS_AT_ONCE]
            batch = (t.to(model.device) for t in stack_rows([rows[i] for i in part]))
            logps[part] = completion_logps(model, *batch).float().cpu()
    return logps


@dataclass(frozen=True)
class MassLedger:
    """The probability of all answers to one prompt, in four accounts that sum to 1.

    To another prompt, the same model can give its answers very different probabilities.

    Attributes:
        chosen: π(y_w|x), of exactly this text.
        rejected: π(y_l|x).
        well_formed: the total of all other well-formed answers of the toy world.
        elsewhere: everything else, 1 minus the three above.
        by_kind: the well-formed mass by kind of answer, chosen and rejected included.
        most_likely: the best well-formed answer or the greedy answer, whichever is more likely. No
            cheap method finds the arg max over all texts, but it is usually one of these two.
        most_likely_mass: its probability.
    """

    chosen: float
    rejected: float
    well_formed: float
    elsewhere: float
    by_kind: dict[str, float]
    most_likely: str
    most_likely_mass: float


def mass_ledger(model: Model, tokenizer: Tokenizer, pair: Pair) -> MassLedger:
    """Return the `MassLedger` of a pair's prompt.

    Raises:
        ValueError: the prompt is not from the toy world, or a side is not a well-formed answer.
    """
    answers = well_formed_answers_to(pair)
    mass = _masses(model, tokenizer, pair["prompt"], [answer.text for answer in answers])
    by_kind: dict[str, float] = {}
    for answer in answers:
        by_kind[answer.kind] = by_kind.get(answer.kind, 0.0) + mass[answer.text]
    greedy = greedy_answer(model, tokenizer, pair["prompt"])
    if greedy not in mass:
        mass |= _masses(model, tokenizer, pair["prompt"], [greedy])
    best = max(mass, key=mass.__getitem__)
    four = accounts(pair, mass, total=sum(by_kind.values()))
    return MassLedger(*four.values(), by_kind, best, mass[best])


def mass_accounts(model: Model, tokenizer: Tokenizer, pair: Pair) -> dict[str, float]:
    """Return only the four accounts of `mass_ledger`, as `accounts` names them."""
    answers = [answer.text for answer in well_formed_answers_to(pair)]
    mass = _masses(model, tokenizer, pair["prompt"], answers)
    return accounts(pair, mass)


def is_countable(pair: Pair) -> bool:
    """Return whether the prompt is from the toy world and both sides are well-formed answers."""
    try:
        well_formed_answers_to(pair)
    except ValueError:
        return False
    return True


def gives_both_answers(model: Model, tokenizer: Tokenizer, pair: Pair) -> bool:
    """Return whether a pair's answers have any probability worth counting under the model."""
    sides = [pair["chosen"], pair["rejected"]]
    return answer_logps(model, tokenizer, pair["prompt"], sides).exp().sum().item() > STRANGE


def accounts(pair: Pair, mass: Mapping[str, float], total: float | None = None) -> dict[str, float]:
    """Return the four accounts of a pair's prompt, which sum to 1, by their names in an event.

    Args:
        mass: π(y|x) by answer.
        total: of all well-formed answers; by default the sum of `mass`.
    """
    total = sum(mass.values()) if total is None else total
    chosen, rejected = mass[pair["chosen"]], mass[pair["rejected"]]
    return {
        "chosen": chosen,
        "rejected": rejected,
        "well_formed": total - chosen - rejected,
        "else": 1 - total,
    }


def _masses(
    model: Model, tokenizer: Tokenizer, prompt: str, answers: Sequence[str]
) -> dict[str, float]:
    """Return π(y|x) by answer."""
    logps = answer_logps(model, tokenizer, prompt, answers).double()
    return dict(zip(answers, logps.exp().tolist(), strict=True))


def greedy_answer(model: Model, tokenizer: Tokenizer, prompt: str) -> str:
    """Return the answer that takes the most likely token at every step."""
    settings = {"temperature": 0, "max_new_tokens": LONGEST_ANSWER}
    return sample_answers(model, tokenizer, [prompt], **settings)[0]


def well_formed_answers_to(pair: Pair) -> tuple[Answer, ...]:
    """Return all well-formed answers to a pair's prompt.

    Raises:
        ValueError: the prompt is not from the toy world, or a side is not a well-formed answer.
    """
    topic = find_topic(pair["prompt"])
    if topic is None:
        raise ValueError(f"not a prompt of the toy world: {pair['prompt']!r}")
    answers = well_formed_answers(topic)
    for side in ("chosen", "rejected"):
        if pair[side] not in {answer.text for answer in answers}:
            raise ValueError(f"{side} is not a well-formed answer to its prompt: {pair[side]!r}")
    return answers
