"""Chosen and rejected the wrong way round, and metrics that do not mean what they seem to."""

import math

from adadpo_mini.doctor.case import Case, Diagnosis
from adadpo_mini.doctor.series import SIDES, Series, mean
from adadpo_mini.doctor.trend import Trend, trend

BARELY = 0.1  # of a margin; less is not worth a word
CHANCE = 0.45  # accuracy
SURE, LOST = 0.8, 0.2  # accuracies that are clearly high and low
FEWEST_LINES = 10  # of a log whose accuracies are only 0 or 1
LN2 = math.log(2)


def sides_misnamed(case: Case) -> Diagnosis | None:
    """Return a diagnosis if the log calls the chosen rejected, while training is right."""
    found = _margin(case)
    if found is None or case.is_own or not case.has_reference:
        return None
    computed, line = found
    logged = dict(case.series("rewards/margins"))
    both = [(value, logged[step]) for step, value in computed if step in logged]
    apart = [(ours, theirs) for ours, theirs in both if abs(ours) > 0.01]
    flipped = len(apart) >= 3 and all(
        abs(ours + theirs) < 0.05 * abs(ours) for ours, theirs in apart
    )
    wins = _second_half(case, "rewards/accuracies")
    loss = _second_half(case, "loss")
    by_loss = line.sign < 0 and line.end < -BARELY and loss is not None and 0 < loss < LN2
    by_wins = wins is not None and wins > 1 - CHANCE
    if not flipped and not (by_loss and by_wins):
        return None
    said = f" Logged margin {both[-1][1]:+.2f}." if both else ""
    accuracy = "" if wins is None else f", accuracy {wins:.0%}"
    lost = "" if loss is None else f", loss {loss:.3g}"
    return Diagnosis(
        "sides_misnamed",
        "Chosen and rejected have each other's names in this log; training itself goes the right "
        "way.",
        f"rewards/chosen minus rewards/rejected ends at {computed[-1][1]:+.2f}, which does not fit "
        f"the rest (second half{lost}{accuracy}).{said}",
        "Read the curve named chosen as rejected and the other way round, and mend the logging "
        "(or a newer version of the trainer).",
    )


def sides_swapped(case: Case) -> Diagnosis | None:
    """Return a diagnosis if the model learns to prefer the rejected answers."""
    if case.is_own or case.weights_chosen or not case.has_reference or sides_misnamed(case):
        return None
    evaluated = _second_half(case, "eval_rewards/accuracies")
    wins = _second_half(case, "rewards/accuracies")
    if wins is not None and evaluated is not None and wins >= SURE and evaluated <= LOST:
        return Diagnosis(
            "sides_swapped",
            "Training and evaluation disagree about which answer is the chosen one.",
            f"In the second half the accuracy is {wins:.0%} in training and {evaluated:.0%} in "
            "evaluation; a model that merely does not generalise would be near 50 %.",
            "Read a few pairs of both sets: chosen and rejected are swapped in one of them.",
        )
    found = _margin(case)
    if found is None:
        return None
    computed, line = found
    if line.sign >= 0 or line.end > -BARELY or (wins is not None and wins > CHANCE):
        return None
    loss = case.series("loss", least=3)
    half = [v for _, v in loss[len(loss) // 2 :]]
    falls = bool(loss) and sum(half) / len(half) < min(loss[0][1], LN2)
    accuracy = "" if wins is None else f" and the accuracy is {wins:.0%}"
    went = f" The loss went from {loss[0][1]:.3g} to {loss[-1][1]:.3g}." if loss else ""
    return Diagnosis(
        "sides_swapped",
        "The model learns to prefer the rejected answers: chosen and rejected are swapped in the "
        "loss.",
        f"The margin ends at {computed[-1][1]:+.2f}{accuracy} in the second half.{went}",
        "The loss falls, so it is fed with the sides swapped while the metrics are not: check the "
        "order in which the halves of the batch are split."
        if falls
        else "The loss rises, so training goes against it: check the sign of the loss and the "
        "order of chosen and rejected in the batch, and read a few pairs of the data.",
    )


def batch_of_one(case: Case) -> Diagnosis | None:
    """Return a diagnosis if the accuracy is only ever 0 or 1: every line is a single pair."""
    wins = [value for _, value in case.series("rewards/accuracies")]
    later = wins[1:]  # at the first update all pairs are tied, which counts as wrong
    mixed = later.count(0.0) >= 2 and later.count(1.0) >= 2
    if case.is_own or len(wins) < FEWEST_LINES or set(wins) - {0.0, 1.0} or not mixed:
        return None
    return Diagnosis(
        "batch_of_one",
        "The accuracy is only ever 0 or 1 because every logged line is a single pair (a batch of "
        "one); single lines say nothing.",
        f"{len(wins)} lines: {later.count(1.0)} times 1 and {wins.count(0.0)} times 0, "
        f"{sum(wins) / len(wins):.0%} on average.",
        "Read averages over 50 lines or more, raise logging_steps, or evaluate on a fixed set "
        "(eval_strategy).",
    )


def evaluation_not_repeatable(case: Case) -> Diagnosis | None:
    """Return a diagnosis if one step was evaluated twice with different results."""
    found = {}
    for event in case.events:
        for key, value in event.items():
            name = key.removeprefix("again/")
            if name != key and name not in found:
                found[name] = (event["step"], event[name], value)
    if not found:
        return None
    words = [
        f"{name} at step {step}: {first:.4g} and {second:.4g}"
        for name, (step, first, second) in list(found.items())[:3]
    ]
    return Diagnosis(
        "evaluation_not_repeatable",
        "Evaluating the same step twice has different results, so the score of a pair depends on "
        "the batch size, on its batch mates or on chance.",
        f"{'; '.join(words)}.",
        "Check padding and attention mask (left padding needs position ids), that dropout is off "
        "in evaluation, and precision: in fp32 the scores of a pair are the same in every batch. A "
        "best checkpoint loaded in between would explain it, too.",
    )


def _margin(case: Case) -> tuple[Series, Trend] | None:
    """Return rewards/chosen minus rewards/rejected, and its trend."""
    chosen, rejected = (dict(case.series(f"rewards/{side}")) for side in SIDES)
    rows = [(step, value - rejected[step]) for step, value in chosen.items() if step in rejected]
    line = trend([value for _, value in rows], [step for step, _ in rows])
    return None if line is None else (rows, line)


def _second_half(case: Case, name: str) -> float | None:
    rows = case.series(name, least=3)
    return mean(rows[len(rows) // 2 :]) if rows else None
