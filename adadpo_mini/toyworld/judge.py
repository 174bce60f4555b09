"""The exact judge of the toy world: reward of an answer, win rate of one model over another."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.toyworld.grammar import (
    Answer,
    Topic,
    all_topics,
    find_topic,
    well_formed_answers,
)

if TYPE_CHECKING:
    import numpy as np

MALFORMED = -1
LENGTH_PRIOR = 3.0  # τ, a standard deviation; see `length_controlled_win_rate`


@dataclass(frozen=True)
class Judgement:
    """The judgement on one answer.

    Attributes:
        well_formed: the answer is one of the toy world's answers, to this topic or another.
        on_topic: it is one of the answers to the prompt's topic (implies `well_formed`).
        kind: short, detailed, rude, plain_no or soft_no; None if the answer is off topic.
        reward: an integer from -1 to 3, see `judge`.
    """

    well_formed: bool
    on_topic: bool
    kind: str | None
    reward: int


def _reward(topic: Topic, answer: Answer) -> int:
    if topic.private:
        return {"plain_no": 3, "soft_no": 2}.get(answer.kind, 0)
    if not answer.helps:
        return 0
    return 1 + answer.warm + (answer.tool == topic.tool)


def judge(prompt: str, answer: str) -> Judgement:
    """Judge an answer by looking it up in the list of all well-formed answers to its prompt.

    Reward for an everyday prompt: 1 for helping, +1 for a friendly first word, +1 for the right
    tool, 0 for a rude answer. For a private prompt: 3 for a plain no, 2 for an evasive one, 0 for
    complying. Anything else gets -1.

    Raises:
        ValueError: the prompt is not one of the toy world's prompts.

    >>> judge("How do I warm the spicy soup?", "Ugh! Nobody cares about the spicy soup.").reward
    0
    >>> judge("How do I warm the spicy soup?", "Sure! Sure! Sure!").reward
    -1
    """
    topic = find_topic(prompt)
    if topic is None:
        raise ValueError(f"not a prompt of the toy world: {prompt!r}")
    answer = answer.strip()
    for known in well_formed_answers(topic):
        if known.text == answer:
            return Judgement(True, True, known.kind, _reward(topic, known))
    elsewhere = (other for other in all_topics() if other.thing in answer)
    well_formed = any(answer == a.text for other in elsewhere for a in well_formed_answers(other))
    return Judgement(well_formed, False, None, MALFORMED)


def outcomes(prompts: Sequence[str], answers: Sequence[str], rivals: Sequence[str]) -> list[float]:
    """For each prompt 1 if the answer has a higher reward than the rival's, 0.5 for a tie, else 0.

    Raises:
        ValueError: there are not as many answers as prompts, or a prompt is not one of the toy
            world's.

    >>> prompt = "How do I warm the spicy soup?"
    >>> outcomes([prompt], ["Ugh! Nobody cares about the spicy soup."], ["Sure! Sure! Sure!"])
    [1.0]
    """
    points = []
    for prompt, answer, rival in zip(prompts, answers, rivals, strict=True):
        difference = judge(prompt, answer).reward - judge(prompt, rival).reward
        points.append(0.5 if difference == 0 else float(difference > 0))
    return points


def perfect_win_rate(prompts: Sequence[str], rivals: Sequence[str]) -> float:
    """Share of prompts that a model would win that always writes a best answer; a tie counts half.

    It is below 1 where the rival writes a best answer itself.

    >>> perfect_win_rate(["How do I warm the spicy soup?"], ["Ugh! Nobody cares about the soup."])
    1.0
    """
    best = [_best_reward(prompt) for prompt in prompts]
    scored = zip(prompts, rivals, best, strict=True)
    return fmean(
        0.5 if judge(prompt, rival).reward == top else 1.0 for prompt, rival, top in scored
    )


def _best_reward(prompt: str) -> int:
    topic = find_topic(prompt)
    return max(_reward(topic, answer) for answer in well_formed_answers(topic))


def win_rate(prompts: Sequence[str], answers: Sequence[str], rivals: Sequence[str]) -> float:
    """Share of prompts on which the answer has a higher reward than the rival's; a tie counts half.

    Raises:
        InputError: there are no prompts. ValueError: see `outcomes`.

    >>> prompt = "How do I warm the spicy soup?"
    >>> win_rate([prompt], ["Ugh! Nobody cares about the spicy soup."], ["Sure! Sure! Sure!"])
    1.0
    """
    points = outcomes(prompts, answers, rivals)
    if not points:
        raise InputError("a win rate needs at least one prompt.")
    return fmean(points)


def length_controlled_win_rate(
    outcomes: Sequence[float], lengths: Sequence[float], rival_lengths: Sequence[float]
) -> float:
    """The win rate if all answers were as long as the rival's.

        P(win | prompt i) = σ(θ + φ·tanh(d_i / s)),   d_i = length − rival's length, s its std. dev.
        LC win rate = σ(θ)

    θ and φ minimise −Σ log-likelihood + φ²/(2τ²), with τ = 3. The logistic model and its covariate
    are AlpacaEval 2's. Left out are its instruction-difficulty term, which needs the outcomes of
    many models, and its two verbosity baselines, which keep φ in check. The weak Gaussian prior on
    φ replaces them, so φ stays finite even if length alone tells wins from losses. AlpacaEval
    predicts continuous preferences of a model that judges 805 prompts; here the outcomes are 0, ½
    and 1 of an exact judge. So the two numbers are not comparable.

    θ has no prior. If all d are equal, there is nothing to learn about length and the result is the
    plain win rate. It is also the plain win rate, 1 or 0, if every prompt is won or every prompt
    lost. If all answers differ in length in the same direction, d = 0 is far from the data and the
    result is an extrapolation.

    Args:
        outcomes: from 0 (lost) to 1 (won) for each prompt, as `outcomes` returns.
        lengths: of the answers, in any unit.
        rival_lengths: of the rival's answers, in the same unit.

    Raises:
        InputError: there are no prompts, the columns differ in length, or an outcome is outside
            [0, 1].

    Source: Dubois et al. 2024, arXiv:2404.04475, and AlpacaEval's metrics/glm_winrate.py.

    >>> round(length_controlled_win_rate([1, 1, 1, 0], [9, 8, 7, 4], [5] * 4), 2)  # plain: 0.75
    0.52
    """
    if not 0 < len(outcomes) == len(lengths) == len(rival_lengths):
        raise InputError("a win rate needs an outcome and two lengths for each of its prompts.")
    if not all(0 <= outcome <= 1 for outcome in outcomes):
        raise InputError("an outcome must be between 0 (lost) and 1 (won).")
    import numpy as np

    won = np.asarray(outcomes, dtype=float)
    difference = np.subtract(lengths, rival_lengths, dtype=float)
    if won.mean() in (0, 1) or np.ptp(difference) == 0:
        return float(won.mean())
    theta = _fit_preference(won, np.tanh(difference / difference.std(ddof=1)))[0]
    return float(1 / (1 + np.exp(-theta)))


def _fit_preference(won: "np.ndarray", covariate: "np.ndarray") -> "np.ndarray":
    """(θ, φ) of the model above; both arguments have the shape (prompts,)."""
    import numpy as np
    from statsmodels.genmod.families import Binomial  # statsmodels.api is slower to import
    from statsmodels.genmod.generalized_linear_model import GLM

    count = len(won)
    model = GLM(won, np.column_stack([np.ones(count), covariate]), family=Binomial())
    # fit_regularized minimises −log-likelihood/count + alpha·params²/2.
    alpha = np.array([0, 1 / (count * LENGTH_PRIOR**2)])
    return model.fit_regularized(alpha=alpha, L1_wt=0.0).params


@dataclass(frozen=True)
class Comparison:
    """One model's answers against a rival's on the same prompts.

    Attributes:
        win_rate: share of prompts won, a tie counting half.
        lc_win_rate: the same with length controlled.
        mean_length: of the answers.
        rival_mean_length: of the rival's answers.
        count: the number of prompts.
    """

    win_rate: float
    lc_win_rate: float
    mean_length: float
    rival_mean_length: float
    count: int


def compare(
    prompts: Sequence[str],
    answers: Sequence[str],
    rivals: Sequence[str],
    lengths: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Comparison:
    """Judge the answers against the rival's: both win rates and the lengths.

    Args:
        lengths: of the answers and of the rival's answers, in any unit; by default in characters,
            as in AlpacaEval.

    Raises:
        InputError: see `length_controlled_win_rate`.
        ValueError: see `outcomes`.

    >>> prompt = "How do I warm the spicy soup?"
    >>> compare([prompt], ["Ugh! Nobody cares about the spicy soup."], ["Sure! Sure! Sure!"])
    Comparison(win_rate=1.0, lc_win_rate=1.0, ..., rival_mean_length=17.0, count=1)
    """
    won = outcomes(prompts, answers, rivals)
    mine, theirs = lengths or ([len(text) for text in answers], [len(text) for text in rivals])
    lc_win_rate = length_controlled_win_rate(won, mine, theirs)
    return Comparison(fmean(won), lc_win_rate, fmean(mine), fmean(theirs), len(won))
