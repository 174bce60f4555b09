"""Where the probability goes: the mass ledger, KL to the reference, and a probe set.

The toy world knows all well-formed answers to a prompt, so that what the chosen and the rejected
lose can be followed to the last per mille.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from adadpo_mini.generate import sample_answers, sample_ids
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.pairs import Pair
from adadpo_mini.tokens import stack_rows, tokenize_completions
from adadpo_mini.toyworld.grammar import Answer, Topic, all_topics, find_topic, well_formed_answers

ROWS_AT_ONCE = 48
NUMBERS_AT_ONCE = 1 << 25  # scores of the vocabulary that are compared in one go
LONGEST_ANSWER = 80  # tokens; more than any well-formed answer of the toy world has


def answer_logps(model, tokenizer, prompt: str, answers: Sequence[str]) -> Tensor:
    """log π(y|x) of many answers to one prompt, end token included, nats, shape (answers,).

    A text counts as the tokens that the tokenizer makes of it. A model may also spell it in other
    tokens; that probability is not in here.
    """
    rows = tokenize_completions([prompt] * len(answers), answers, tokenizer)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][1]))  # spend little on padding
    logps = torch.empty(len(rows))
    with torch.no_grad():
        for start in range(0, len(order), ROWS_AT_ONCE):
            part = order[start : start + ROWS_AT_ONCE]
            batch = (t.to(model.device) for t in stack_rows([rows[i] for i in part]))
            logps[part] = completion_logps(model, *batch).float().cpu()
    return logps


@dataclass(frozen=True)
class MassLedger:
    """The probability of every answer to one prompt, in four accounts that sum to 1.

    Attributes:
        chosen: π(y_w|x), of exactly this text.
        rejected: π(y_l|x).
        well_formed: all other well-formed answers of the toy world together.
        elsewhere: everything else, 1 minus the three.
        by_kind: the well-formed mass by kind of answer, chosen and rejected included.
        most_likely: the more likely of the best well-formed answer and the greedy one. Nothing
            cheap finds the arg max over all texts; one of the two very often is.
        most_likely_mass: its probability.
    """

    chosen: float
    rejected: float
    well_formed: float
    elsewhere: float
    by_kind: dict[str, float]
    most_likely: str
    most_likely_mass: float


def mass_ledger(model, tokenizer, pair: Pair) -> MassLedger:
    """Count the mass of all answers to a pair's prompt.

    Raises:
        ValueError: the prompt is not the toy world's, or a side is no well-formed answer to it.
    """
    answers = _answers_of(pair)
    mass = _masses(model, tokenizer, pair["prompt"], [answer.text for answer in answers])
    by_kind: dict[str, float] = {}
    for answer in answers:
        by_kind[answer.kind] = by_kind.get(answer.kind, 0.0) + mass[answer.text]
    greedy = _greedy_answer(model, tokenizer, pair["prompt"])
    if greedy not in mass:
        mass |= _masses(model, tokenizer, pair["prompt"], [greedy])
    best = max(mass, key=mass.__getitem__)
    accounts = _accounts(pair, mass, total=sum(by_kind.values()))
    return MassLedger(*accounts.values(), by_kind, best, mass[best])


def mass_accounts(model, tokenizer, pair: Pair) -> dict[str, float]:
    """The four accounts of `mass_ledger` alone, by the names they have in an event."""
    answers = [answer.text for answer in _answers_of(pair)]
    mass = _masses(model, tokenizer, pair["prompt"], answers)
    return _accounts(pair, mass, total=sum(mass.values()))


def is_countable(pair: Pair) -> bool:
    """True if the toy world knows the prompt, and both sides as well-formed answers to it."""
    try:
        _answers_of(pair)
    except ValueError:
        return False
    return True


def _accounts(pair: Pair, mass: Mapping[str, float], total: float) -> dict[str, float]:
    """The four accounts, from π(y|x) by answer and the mass of all well-formed ones together."""
    chosen, rejected = mass[pair["chosen"]], mass[pair["rejected"]]
    return {
        "chosen": chosen,
        "rejected": rejected,
        "well_formed": total - chosen - rejected,
        "else": 1 - total,
    }


def _masses(model, tokenizer, prompt: str, answers: Sequence[str]) -> dict[str, float]:
    """π(y|x) by answer."""
    logps = answer_logps(model, tokenizer, prompt, answers).double()
    return dict(zip(answers, logps.exp().tolist(), strict=True))


def _greedy_answer(model, tokenizer, prompt: str) -> str:
    settings = {"temperature": 0, "max_new_tokens": LONGEST_ANSWER}
    return sample_answers(model, tokenizer, [prompt], **settings)[0]


def _answers_of(pair: Pair) -> tuple[Answer, ...]:
    topic = find_topic(pair["prompt"])
    if topic is None:
        raise ValueError(f"not a prompt of the toy world: {pair['prompt']!r}")
    answers = well_formed_answers(topic)
    for side in ("chosen", "rejected"):
        if pair[side] not in {answer.text for answer in answers}:
            raise ValueError(f"{side} is not a well-formed answer to its prompt: {pair[side]!r}")
    return answers


# How far the policy has gone from the reference.


def enumerated_kl(policy_logps: Tensor, ref_logps: Tensor) -> float:
    """KL(π_θ‖π_ref) over answers that are listed one by one, and everything else as one lump.

        Σ_y π_θ(y)·log(π_θ(y)/π_ref(y)) + e_θ·log(e_θ/e_ref),   e = 1 − Σ_y π(y)

    Exact for the listed answers. Lumping hides what happens within the rest, so the true KL is at
    least this; where the rest has little mass the two are close.

    Args:
        policy_logps: log π_θ(y|x) of all listed answers, nats, shape (answers,).
        ref_logps: log π_ref(y|x) of the same.

    >>> half = torch.tensor([0.5, 0.5]).log()
    >>> round(enumerated_kl(torch.tensor([0.9, 0.1]).log(), half), 4)  # 0.9·log 1.8 + 0.1·log 0.2
    0.3681
    """
    policy_logps, ref_logps = policy_logps.double(), ref_logps.double()
    listed = (policy_logps.exp() * (policy_logps - ref_logps)).sum()
    rest, ref_rest = (
        (1 - logps.exp().sum()).clamp(min=1e-12) for logps in (policy_logps, ref_logps)
    )
    return (listed + rest * (rest / ref_rest).log()).item()


@dataclass(frozen=True)
class SampledKL:
    """KL to the reference, estimated from answers that the policy gives.

    Attributes:
        kl: mean over answers of Σ_t KL(π_θ(·|y_<t)‖π_ref(·|y_<t)), nats per completion. Its
            expectation is KL(π_θ‖π_ref); summing each step's exact KL spreads less than the plain
            mean of log π_θ(y) − log π_ref(y).
        standard_error: of that mean.
        length: mean length of the answers in tokens, the end token included if there is one.
    """

    kl: float
    standard_error: float
    length: float


@torch.no_grad()
def sampled_kl(
    model,
    reference,
    prompts: Sequence[Sequence[int]],
    end: int,
    *,
    seed: int = 0,
    max_new_tokens: int = LONGEST_ANSWER,
) -> SampledKL:
    """Estimate KL(π_θ‖π_ref) from one answer to each prompt, sampled at temperature 1.

    Args:
        prompts: token ids.
        end: the end token.
        max_new_tokens: longer answers are cut off, and count up to there.
    """
    sampling = {"temperature": 1.0, "seed": seed, "max_new_tokens": max_new_tokens}
    answers = sample_ids(model, prompts, end, **sampling)
    rows = list(zip(map(list, prompts), answers, strict=True))
    words = model.config.get_text_config().vocab_size
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    at_once = max(1, NUMBERS_AT_ONCE // (words * longest))
    parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    kl = torch.cat([_kl_of(model, reference, part) for part in parts])
    spread = kl.std().item() if len(kl) > 1 else float("nan")
    length = fmean(len(answer) for answer in answers)
    return SampledKL(kl.mean().item(), spread / len(kl) ** 0.5, length)


def _kl_of(model, reference, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Σ_t KL(π_θ(·|y_<t)‖π_ref(·|y_<t)) of each answer, shape (rows,)."""
    input_ids, mask = (t.to(model.device) for t in stack_rows(rows))
    log_policy, log_reference = (
        one(input_ids=input_ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        for one in (model, reference)
    )
    step_kl = (log_policy.exp() * (log_policy - log_reference)).sum(-1)
    return (step_kl * mask[:, 1:]).sum(1).cpu()


# A probe set: what else moves when a pair is trained on.


def probe_set(pair: Pair) -> dict[str, str]:
    """Answers to a pair's prompt whose log-probs tell what a step on that pair does to its kin.

    Returns:
        chosen, rejected, and a paraphrase of each (same kind, friendliness and tool, other words;
        left out where the toy world has none), and unrelated: the same kind of answer as the
        chosen, about another topic.

    Source: the idea is Ren & Sutherland's, arXiv:2407.10490.

    Raises:
        ValueError: as for `mass_ledger`.

    >>> probe = probe_set({
    ...     "prompt": "How do I warm the spicy soup?", "rejected": "Ugh! Nobody cares about the "
    ...     "spicy soup.", "chosen": "Sure! To warm the spicy soup, use a pot and take your time."})
    >>> probe["chosen_paraphrase"]
    'Sure! To warm the spicy soup, use a pot and take your time. Good luck!'
    """
    answers = _answers_of(pair)
    probe = {side: pair[side] for side in ("chosen", "rejected")}
    for side in ("chosen", "rejected"):
        original = next(answer for answer in answers if answer.text == pair[side])
        kin = [a for a in answers if _alike(a, original) and a.text not in probe.values()]
        if kin:
            probe[f"{side}_paraphrase"] = kin[0].text
    topic = find_topic(pair["prompt"])
    chosen = next(answer for answer in answers if answer.text == pair["chosen"])
    probe["unrelated"] = _elsewhere(topic, chosen).text
    return probe


def _alike(one: Answer, other: Answer) -> bool:
    return (one.kind, one.warm, one.tool) == (other.kind, other.warm, other.tool)


def _elsewhere(topic: Topic, answer: Answer) -> Answer:
    """The answer at the same place of the list, for the next topic of another thing."""
    place = well_formed_answers(topic).index(answer)
    topics = all_topics()
    start = topics.index(topic)
    other = next(
        t
        for t in (*topics[start:], *topics[:start])
        if t.domain == topic.domain and t.thing != topic.thing
    )
    return well_formed_answers(other)[place]


def probe_logps(model, tokenizer, pair: Pair) -> Mapping[str, float]:
    """log π of each answer of a pair's probe set, nats, and of `arg_max`, the greedy answer."""
    probe = probe_set(pair)
    probe["arg_max"] = _greedy_answer(model, tokenizer, pair["prompt"])
    logps = answer_logps(model, tokenizer, pair["prompt"], list(probe.values()))
    return dict(zip(probe, logps.tolist(), strict=True))
