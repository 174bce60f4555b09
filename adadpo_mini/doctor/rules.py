"""The doctor's rules. A rule is a small function of one case; here are those about learning.

It returns a diagnosis, or None: for a healthy run, and if its numbers are not in the log. A rising
chosen is good by itself, so `chosen_rises` needs a rejected that rises with it. The other rules are
in `start.py` (the first lines), `sides.py` (the wrong way round), `overshoot.py` (too large
updates) and `stuck.py` (none).
"""

from collections.abc import Sequence

from adadpo_mini.doctor.case import Case, Diagnosis, Rule, either
from adadpo_mini.doctor.moves import Movement, find_movements
from adadpo_mini.doctor.overshoot import learning_rate_too_high, not_finite
from adadpo_mini.doctor.series import last_quarter, mean
from adadpo_mini.doctor.sides import (
    batch_of_one,
    evaluation_not_repeatable,
    sides_misnamed,
    sides_swapped,
)
from adadpo_mini.doctor.start import (
    first_rewards,
    no_answer_tokens,
    reference_is_base,
    rewards_not_zero_at_start,
)
from adadpo_mini.doctor.stuck import FEWEST_ROWS, margin_rows, nothing_moved

# Every threshold with its reason. "Measured" means: on the six toy sets with dpo, adadpo and
# fixed_ratio, 60 steps of the default race (β = 0.1, learning rate 2e-4), seed 0.
LEARNED = 0.01  # nats: the loss of a pair whose margin is 4.6
LEAST_MARGIN = 1.0  # where hinge is 0; IPO aims at less than that and is never saturated
LITTLE_GRADIENT = 0.05  # of the largest; at a loss of 0.01, σ(−margin) is 1/50 of the first step's
DRIFT = 1.5  # longer or shorter by this factor, twice in a row: lengths are means of few answers
LEAK = 0.1  # of all probability; the healthy preset loses 0.01, DPO at its default 0.9
ALMOST_ALL = 0.95  # share of pairs at the ceiling; a probe has 32, so one of them may be below


def both_sink(case: Case) -> Diagnosis | None:
    """Return a diagnosis if chosen and rejected have both become less likely."""
    found = [one for one in _trusted(case) if one.down]
    if not found:
        return None
    what = (
        "The chosen answers become less likely than at the start; the rejected ones do not clearly."
        if all(one.alone for one in found)
        else "Both sink: the chosen answers become less likely, along with the rejected ones."
    )
    return Diagnosis(
        "both_sink",
        what,
        f"{' '.join(one.sentence for one in found)} The loss depends only on the difference "
        "between the two.",
        f"{either([*case.more_chosen(), *case.less_push()])}; judge by sampled answers, not by "
        f"loss or accuracy. What β does is measured in data/results/beta.md.{_doubt(found)}",
    )


def saturated(case: Case) -> Diagnosis | None:
    """Return a diagnosis if loss and gradient are almost zero, because every pair is learned."""
    loss = case.series("loss", least=FEWEST_ROWS)
    if not loss or reference_is_base(case) or not_finite(case):
        return None
    end = last_quarter(loss)
    signs = _learned(case, end[0][0])
    if abs(mean(end)) >= LEARNED or signs is None:
        return None
    return Diagnosis(
        "saturated",
        "Saturated: the model ranks every pair correctly, so these pairs teach it nothing more.",
        f"From step {end[0][0]} to {end[-1][0]} the loss was {mean(end):.1g}{signs}.",
        "Stop earlier or use harder pairs; more steps only push the probabilities further apart.",
    )


def _learned(case: Case, since: int) -> str | None:
    """Return in words what besides the loss shows that all is learned; None if something does not.

    Without a gradient norm the margin decides, without margins the accuracy.
    """
    grads = [v for _, v in case.series("grad_norm", least=FEWEST_ROWS)]
    margins = [row for row in margin_rows(case) if row[1] == row[1]]
    before = [value for step, value in margins if step <= since]
    small = mean(last_quarter(case.series("grad_norm"))) / max(grads) if grads and max(grads) else 0
    if grads and (max(grads) <= 0 or small >= LITTLE_GRADIENT):
        return None
    gradient = f" and the gradient norm {small:.1%} of its largest" if grads else ""
    if before and margins[-1][1] > (0 if grads else LEAST_MARGIN):
        return f"{gradient}, while the margin went from {before[-1]:.1f} to {margins[-1][1]:.1f}"
    right = case.series("rewards/accuracies", "eval_rewards/accuracies", least=FEWEST_ROWS)
    if margins or not right or mean(last_quarter(right)) < 0.99:
        return None
    return f"{gradient}, while the accuracy was {mean(last_quarter(right)):.0%}"


def chosen_rises(case: Case) -> Diagnosis | None:
    """Return a diagnosis if chosen and rejected have both become more likely."""
    found = [one for one in _trusted(case) if one.up]
    if not found:
        return None
    less = (
        "Give the chosen side less weight (a smaller fixed ratio or ceiling, or dpo), or train "
        "longer"
        if case.weights_chosen
        else "Lower the weight of the likelihood term on the chosen, or train longer"
        if case.imitates
        else "Train longer, or check whether chosen and rejected are near copies"
    )
    return Diagnosis(
        "chosen_rises",
        "The chosen answers rise, but the rejected ones rise with them: the model learns what both "
        "have in common more than what sets them apart.",
        f"{' '.join(one.sentence for one in found)} Margin and accuracy alone do not show this.",
        f"{less}; if the rejected keeps rising, this is close to plain fine-tuning on the chosen."
        f"{_doubt(found)}",
    )


def _doubt(found: Sequence[Movement]) -> str:
    """Return a sentence if the first line already shows the movement, else nothing."""
    if not any(one.at_once for one in found):
        return ""
    return (
        " The first line already shows most of it: if that is too much for so few updates, the "
        "reference is not the model that training starts from."
    )


def _trusted(case: Case) -> list[Movement]:
    """Return the movements; none if rewards were off from the start, as levels then mislead."""
    off = not case.is_own and (first_rewards(case) or reference_is_base(case))
    return [] if off else find_movements(case)


LENGTHS = ("eval_length", "eval_completions/mean_length", "completions/mean_length")


def length_drift(case: Case) -> Diagnosis | None:
    """Return a diagnosis if sampled answers have become much longer or shorter."""
    lengths = case.series(*LENGTHS, least=FEWEST_ROWS)
    if not lengths or lengths[0][1] <= 0:
        return None
    (first_step, first), (last_step, last) = lengths[0], lengths[-1]
    end = [value / first for _, value in last_quarter(lengths)]
    if min(end) < DRIFT and max(end) > 1 / DRIFT:
        return None
    longer = last > first
    return Diagnosis(
        "length_drift",
        f"The answers get much {'longer' if longer else 'shorter'}.",
        f"Sampled answers had {first:.1f} tokens on average at step {first_step} and {last:.1f} "
        f"at step {last_step}, {last / first:.2f} times as many.",
        f"Check whether your chosen answers are {'longer' if longer else 'shorter'} than the "
        "rejected ones; if so, balance the pairs or use a loss that accounts for length (rdpo, "
        "simpo). Read some answers, too: a broken model also changes their length.",
    )


def mass_leaves(case: Case) -> Diagnosis | None:
    """Return a diagnosis if probability has moved to text outside the toy world."""
    mass = case.series("mass/else", least=2)
    if not mass or mass[-1][1] - mass[0][1] < LEAK:
        return None
    chosen = case.series("mass/chosen", least=2)
    chosen_mass = f"; the chosen answers have {chosen[-1][1]:.3f}" if chosen else ""
    return Diagnosis(
        "mass_leaves",
        "Probability moves from well-formed answers to text that is not an answer at all.",
        f"The probability of text outside the toy world went from {mass[0][1]:.3f} at step "
        f"{mass[0][0]} to {mass[-1][1]:.3f} at step {mass[-1][0]}{chosen_mass}.",
        f"{either([*case.less_push(), *case.more_chosen()])}; sample some answers and read them.",
    )


def all_at_ceiling(case: Case) -> Diagnosis | None:
    """Return a diagnosis if almost every pair's ρ is at its ceiling."""
    shares = case.series("eval_ada/ceiling_share", "ada/ceiling_share", least=FEWEST_ROWS)
    rho = case.series("eval_ada/rho", "ada/rho")
    if not shares or not rho:
        return None
    end = last_quarter(shares)
    if min(value for _, value in end) < ALMOST_ALL:
        return None
    since = next(step for step, value in shares if value >= ALMOST_ALL)
    return Diagnosis(
        "all_at_ceiling",
        "Every pair's ratio is at its ceiling, so the method no longer adapts: it is a fixed ratio "
        "(DPO-Shift).",
        f"{mean(end):.0%} of the pairs were at the ceiling from step {end[0][0]} to "
        f"{end[-1][0]} (first at step {since}), with β_w/β_l = {rho[-1][1]:.2f}.",
        "Race it against fixed_ratio, its control; to make it adapt, raise β, lower the learning "
        "rate or raise the ceiling.",
    )


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        not_finite,
        no_answer_tokens,
        reference_is_base,
        rewards_not_zero_at_start,
        sides_misnamed,
        sides_swapped,
        learning_rate_too_high,
        nothing_moved,
        mass_leaves,
        both_sink,
        chosen_rises,
        length_drift,
        saturated,
        all_at_ceiling,
        evaluation_not_repeatable,
        batch_of_one,
    )
}
"""The rules by name, the most serious first; diagnoses are shown in this order."""
