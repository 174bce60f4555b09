"""The doctor's rules. A rule is a small function of the events of one method.

It returns a diagnosis, or None: for a healthy run, and if its numbers are not in the log. A rising
chosen is good by itself, so `chosen_rises` needs a rejected that rises with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adadpo_mini.doctor.logs import is_finite
from adadpo_mini.doctor.series import Series, find_shifts, last_quarter, mean, series
from adadpo_mini.event import Event

# Every threshold with its reason. "Measured" means: on the six toy sets with dpo, adadpo and
# fixed_ratio, 60 steps of the default race (β = 0.1, learning rate 2e-4), seed 0.
FEW_UPDATES = 10  # too few to call a run stuck; a fall within them is a sudden one
FEWEST_ROWS = 3  # that a log needs before a value can be called constant
STILL = 1e-3  # nats from ln 2; the margin may be twice that, a gap of 0.02 nats at β = 0.1
SINK = 1.0  # nats per completion: e times less likely; the healthy preset gains 0.6
RISE = 0.1  # nats: a tenth more likely; a fixed probe has no noise of that size
LEARNED = 0.01  # nats: the loss of a pair whose margin is 4.6
LITTLE_GRADIENT = 0.05  # of the largest; at a loss of 0.01, σ(−margin) is 1/50 of the first step's
DRIFT = 1.5  # longer or shorter by this factor, twice in a row: lengths are means of few answers
LEAK = 0.1  # of all probability; the healthy preset loses 0.01, DPO at its default 0.9
SPIKE = 2.0  # times the first loss; measured: at most 1.03, or 1.24 at a learning rate of 5e-4
STEEP = 20.0  # times the first gradient norm; measured: at most 3.7, or 9.5 with wrong labels
PLUNGE = 5.0  # nats within FEW_UPDATES, and more than −log π(chosen) was; measured: at most 1.4
ALMOST_ALL = 0.95  # share of pairs at the ceiling; a probe has 32, so one of them may be below


@dataclass(frozen=True)
class Diagnosis:
    """One finding about a run.

    Attributes:
        name: the rule that found it, a key of `RULES` and of `presets.PRESETS`.
        what: the finding, in one sentence.
        evidence: the numbers behind it, in words, with their steps.
        advice: what to do.
    """

    name: str
    what: str
    evidence: str
    advice: str


def nothing_moved(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if the loss is still at ln 2 and no margin has grown."""
    loss = series(events, "eval_loss", "loss", least=FEWEST_ROWS)
    margins = series(events, "eval_rewards/margins", "rewards/margins", least=FEWEST_ROWS)
    if not loss or not margins or loss[-1][0] < FEW_UPDATES:
        return None
    off = max(abs(value - math.log(2)) for _, value in loss)
    margin = max(abs(value) for _, value in margins)
    if off > STILL or margin > 2 * STILL:
        return None
    grads, rates = series(events, "grad_norm"), series(events, "learning_rate")
    frozen = bool(grads) and max(value for _, value in grads) == 0
    gradient = f" The gradient norm was {mean(grads):.2g} on average." if grads else ""
    rate = f" The learning rate was at most {max(r for _, r in rates):.2g}." if rates else ""
    return Diagnosis(
        "nothing_moved",
        "Nothing has moved: the model still answers like the reference.",
        f"From step {loss[0][0]} to {loss[-1][0]} the loss stayed at ln 2 = 0.6931 (within "
        f"{off:.1g}) and no margin exceeded {margin:.1g}.{gradient}{rate}",
        "The gradient is zero: check that the parameters are trainable and that policy and "
        "reference are not the same model."
        if frozen
        else "Raise the learning rate tenfold, and again until the margins grow; check whether the "
        "run ended during warm-up.",
    )


def both_sink(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if chosen and rejected have both become less likely."""
    shifts = find_shifts(events)
    if shifts is None or max(shifts.chosen[-1], shifts.rejected[-1]) > -shifts.threshold(SINK):
        return None
    return Diagnosis(
        "both_sink",
        "Both sink: the chosen answers become less likely, along with the rejected ones.",
        f"{shifts.sentence} The loss depends only on the difference between the two.",
        "Give the chosen side more weight (adadpo, or fixed_ratio as its control), raise β, lower "
        "the learning rate or stop earlier; judge by sampled answers, not by loss or accuracy.",
    )


def saturated(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if loss and gradient are almost zero, because every pair is learned."""
    names = ("loss", "grad_norm", "rewards/margins")
    loss, grads, margins = (series(events, name, least=FEWEST_ROWS) for name in names)
    if not loss or not grads or not margins:
        return None
    end, pull = last_quarter(loss), mean(last_quarter(grads))
    largest = max(value for _, value in grads)
    before = [value for step, value in margins if step <= end[0][0]]
    learned = abs(mean(end)) < LEARNED and margins[-1][1] > 0
    if not before or not learned or largest <= 0 or pull >= LITTLE_GRADIENT * largest:
        return None
    return Diagnosis(
        "saturated",
        "Saturated: the model ranks every pair correctly, so these pairs teach it nothing more.",
        f"From step {end[0][0]} to {end[-1][0]} the loss was {mean(end):.1g} and the gradient "
        f"norm {pull / largest:.1%} of its largest, while the margin went from {before[-1]:.1f} "
        f"to {margins[-1][1]:.1f}.",
        "Stop earlier or use harder pairs; more steps only push the probabilities further apart.",
    )


def chosen_rises(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if chosen and rejected have both become more likely."""
    shifts = find_shifts(events)
    if shifts is None or min(shifts.chosen[-1], shifts.rejected[-1]) < shifts.threshold(RISE):
        return None
    return Diagnosis(
        "chosen_rises",
        "The chosen answers rise, but the rejected ones rise with them: the model learns what both "
        "have in common more than what sets them apart.",
        f"{shifts.sentence} Margin and accuracy alone do not show this.",
        "Give the chosen side less weight (a smaller fixed ratio or ceiling, or dpo), or train "
        "longer; if the rejected keeps rising, this is close to plain fine-tuning on the chosen.",
    )


LENGTHS = ("eval_length", "eval_completions/mean_length", "completions/mean_length")


def length_drift(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if sampled answers have become much longer or shorter."""
    lengths = series(events, *LENGTHS, least=FEWEST_ROWS)
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


def mass_leaves(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if probability has moved to text outside the toy world."""
    mass = series(events, "mass/else", least=2)
    if not mass or mass[-1][1] - mass[0][1] < LEAK:
        return None
    chosen = series(events, "mass/chosen", least=2)
    chosen_mass = f"; the chosen answers have {chosen[-1][1]:.3f}" if chosen else ""
    return Diagnosis(
        "mass_leaves",
        "Probability moves from well-formed answers to text that is not an answer at all.",
        f"The probability of text outside the toy world went from {mass[0][1]:.3f} at step "
        f"{mass[0][0]} to {mass[-1][1]:.3f} at step {mass[-1][0]}{chosen_mass}.",
        "Lower the learning rate, stop earlier, raise β, or give the chosen side more weight "
        "(adadpo, fixed_ratio); sample some answers and read them.",
    )


def learning_rate_too_high(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if loss or gradient jumped, or the chosen fell within a few updates.

    A number that is not finite counts too.
    """
    signs = _not_finite(events)
    shifts = find_shifts(events)
    # Some losses jump by design (DPOP's penalty); then the chosen is no worse than before.
    if shifts is None or shifts.chosen[-1] < 0:
        signs += _jump("loss", series(events, "loss"), SPIKE, at_least=math.log(2))
        signs += _jump("gradient norm", series(events, "grad_norm"), STEEP)
    if shifts is not None:
        bound = max(PLUNGE, shifts.scale)
        early = [
            f"the chosen fell by {-chosen:.1f} nats by step {step}"
            for step, chosen in zip(shifts.steps, shifts.chosen, strict=True)
            if step - shifts.steps[0] <= FEW_UPDATES and chosen < -bound
        ]
        signs += early[:1]
    if not signs:
        return None
    return Diagnosis(
        "learning_rate_too_high",
        "The learning rate is too high: the updates overshoot and damage the model.",
        f"Signs: {'; '.join(signs)}.",
        "Divide the learning rate by ten, and add a warm-up or gradient clipping if there is none.",
    )


def _not_finite(events: Sequence[Event]) -> list[str]:
    """Return in words which losses and gradient norms are not finite.

    A gradient norm that is not finite counts only if it is the last one, or if there are two: fp16
    training finds its loss scale by overflowing, so a single one means nothing.
    """
    signs = []
    for name in ("loss", "eval_loss", "grad_norm"):
        rows = [(event["step"], is_finite(event[name])) for event in events if name in event]
        bad = [step for step, finite in rows if not finite]
        if bad and (name != "grad_norm" or len(bad) > 1 or not rows[-1][1]):
            signs.append(f"{name} was not a finite number at step {bad[0]}")
    return signs


def _jump(what: str, rows: Series, factor: float, at_least: float = 0.0) -> list[str]:
    """Return in words whether the largest value is more than `factor` times the first.

    A loss that does not start at ln 2, such as RLHF's, may start near 0; `at_least` replaces a
    smaller first value.
    """
    if not rows:
        return []
    first = rows[0][1]
    step, top = max(rows, key=lambda row: row[1])
    jumped = top > factor * max(first, at_least) > 0
    return [f"the {what} went from {first:.3g} to {top:.3g} at step {step}"] if jumped else []


def all_at_ceiling(events: Sequence[Event]) -> Diagnosis | None:
    """Return a diagnosis if almost every pair's ρ is at its ceiling."""
    shares = series(events, "eval_ada/ceiling_share", "ada/ceiling_share", least=FEWEST_ROWS)
    rho = series(events, "eval_ada/rho", "ada/rho")
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
        "rate, use longer answers or raise the ceiling.",
    )


Rule = Callable[[Sequence[Event]], Diagnosis | None]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        learning_rate_too_high,
        nothing_moved,
        mass_leaves,
        both_sink,
        chosen_rises,
        length_drift,
        saturated,
        all_at_ceiling,
    )
}
"""The rules by name, the most serious first; diagnoses are shown in this order."""
