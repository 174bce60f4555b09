"""The doctor's rules. A rule is a small function that looks at the events of one method.

It speaks only if it finds its numbers in the log, and a healthy run hears nothing. A rising chosen
is good news by itself, so the rule `chosen_rises` speaks only if the rejected rises with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adadpo_mini.doctor.logs import is_finite
from adadpo_mini.doctor.series import Series, find_shifts, last_quarter, mean, series
from adadpo_mini.event import Event

# Every threshold, and why it is what it is. "Measured" means: on the six toy sets with dpo, adadpo
# and fixed_ratio, 60 steps of the default race (β = 0.1, learning rate 2e-4), seed 0.
FEW_UPDATES = 10  # fewer say nothing about standing still; what falls within them falls at once
FEWEST_ROWS = 3  # of a log, before one may speak of what stays as it is
STILL = 1e-3  # nats off ln 2; a margin of twice this, which a gap of 0.02 nats gives at β = 0.1
SINK = 1.0  # nats per completion: e times less likely; the healthy preset gains 0.6
RISE = 0.1  # nats: a tenth more likely; on a fixed probe there is no noise that could do that
LEARNED = 0.01  # nats: the loss of a pair whose margin is 4.6
LITTLE_GRADIENT = 0.05  # of the largest; at a loss of 0.01, σ(−margin) is 1/50 of the first step's
DRIFT = 1.5  # longer or shorter by this factor, twice running: lengths are means of few answers
LEAK = 0.1  # of all probability; the healthy preset loses 0.01, DPO at its default 0.9
SPIKE = 2.0  # times the first loss; measured: at most 1.03, at a rate of 5e-4 1.24
STEEP = 20.0  # times the first gradient norm; measured: at most 3.7, with wrong labels 9.5
PLUNGE = 5.0  # nats within FEW_UPDATES, and more than the chosen had; measured: at most 1.4
EVERYBODY = 0.95  # share of pairs at the ceiling; a probe has 32, of which one may stay behind


@dataclass(frozen=True)
class Diagnosis:
    """One thing that is going on in a run.

    Attributes:
        name: the rule that found it, a key of `RULES` and of `presets.PRESETS`.
        what: what is going on, in one sentence.
        evidence: the numbers it rests on, in words, with their steps.
        advice: what to do.
    """

    name: str
    what: str
    evidence: str
    advice: str


def nothing_moved(events: Sequence[Event]) -> Diagnosis | None:
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
        "The gradient is zero: check that parameters are trainable and that policy and reference "
        "are not one and the same model."
        if frozen
        else "Raise the learning rate tenfold, and again until the margins grow; look whether a "
        "warm-up was still going on.",
    )


def both_sink(events: Sequence[Event]) -> Diagnosis | None:
    shifts = find_shifts(events)
    if shifts is None or max(shifts.chosen[-1], shifts.rejected[-1]) > -shifts.threshold(SINK):
        return None
    return Diagnosis(
        "both_sink",
        "Both sink: the chosen answers become less likely along with the rejected.",
        f"{shifts.evidence} To the loss it only matters which of the two is ahead.",
        "Weigh the chosen side more (adadpo, or fixed_ratio as its control), raise β, lower the "
        "learning rate or stop earlier; judge by sampled answers, not by loss or accuracy.",
    )


def saturated(events: Sequence[Event]) -> Diagnosis | None:
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
        "Saturated: every pair is told apart, so there is nothing left to learn from these pairs.",
        f"From step {end[0][0]} to {end[-1][0]} the loss was {mean(end):.1g} and the gradient "
        f"norm {pull / largest:.1%} of its largest, while the margin went from {before[-1]:.1f} "
        f"to {margins[-1][1]:.1f}.",
        "Stop earlier or bring harder pairs; more steps only drive the probabilities apart.",
    )


def chosen_rises(events: Sequence[Event]) -> Diagnosis | None:
    shifts = find_shifts(events)
    if shifts is None or min(shifts.chosen[-1], shifts.rejected[-1]) < shifts.threshold(RISE):
        return None
    return Diagnosis(
        "chosen_rises",
        "The chosen answers rise, but the rejected rise with them: what both have in common is "
        "learned more than what tells them apart.",
        f"{shifts.evidence} Margin and accuracy alone would not show it.",
        "Give the chosen side less weight (a smaller fixed ratio or ceiling, or dpo), or train "
        "on; if the rejected keeps rising, this is close to plain fine-tuning on the chosen.",
    )


LENGTHS = ("eval_length", "eval_completions/mean_length", "completions/mean_length")


def length_drift(events: Sequence[Event]) -> Diagnosis | None:
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
        f"See whether your chosen answers are {'longer' if longer else 'shorter'} than the "
        "rejected; if so, balance the pairs or use a loss that accounts for length (rdpo, simpo). "
        "Read some answers: a broken model rambles on, too.",
    )


def mass_leaves(events: Sequence[Event]) -> Diagnosis | None:
    mass = series(events, "mass/else", least=2)
    if not mass or mass[-1][1] - mass[0][1] < LEAK:
        return None
    chosen = series(events, "mass/chosen", least=2)
    instead = f"; the chosen answers got {chosen[-1][1]:.3f}" if chosen else ""
    return Diagnosis(
        "mass_leaves",
        "Probability leaves the well-formed answers for text that is none of them.",
        f"The share of answers that are none of the toy world's went from {mass[0][1]:.3f} at step "
        f"{mass[0][0]} to {mass[-1][1]:.3f} at step {mass[-1][0]}{instead}.",
        "Lower the learning rate, stop earlier, raise β, or weigh the chosen side more (adadpo, "
        "fixed_ratio); sample some answers and read them.",
    )


def learning_rate_too_high(events: Sequence[Event]) -> Diagnosis | None:
    signs = _not_finite(events)
    shifts = find_shifts(events)
    # Some losses leap by design (DPOP's penalty) and leave the chosen no worse than it was.
    if shifts is None or shifts.chosen[-1] < 0:
        signs += _leap("loss", series(events, "loss"), SPIKE, at_least=math.log(2))
        signs += _leap("gradient norm", series(events, "grad_norm"), STEEP)
    if shifts is not None:
        bound = max(PLUNGE, shifts.scale, shifts.noise)
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
        "The learning rate is too high: the steps overshoot and wreck the model.",
        f"Signs: {'; '.join(signs)}.",
        "Divide the learning rate by ten, and add a warm-up or gradient clipping if there is none.",
    )


def _not_finite(events: Sequence[Event]) -> list[str]:
    """Losses that are no number. Of gradient norms the last, or two: fp16 training finds its
    loss scale by overflowing, so one alone means nothing."""
    signs = []
    for name in ("loss", "eval_loss", "grad_norm"):
        rows = [(event["step"], is_finite(event[name])) for event in events if name in event]
        bad = [step for step, finite in rows if not finite]
        if bad and (name != "grad_norm" or len(bad) > 1 or not rows[-1][1]):
            signs.append(f"{name} was no finite number at step {bad[0]}")
    return signs


def _leap(what: str, rows: Series, factor: float, at_least: float = 0.0) -> list[str]:
    """Whether the top of these rows is so many times the first. A loss that does not start at
    ln 2, such as RLHF's, may start near 0: `at_least` stands in for a smaller first one."""
    if not rows:
        return []
    first = rows[0][1]
    step, top = max(rows, key=lambda row: row[1])
    leapt = top > factor * max(first, at_least) > 0
    return [f"the {what} went from {first:.3g} to {top:.3g} at step {step}"] if leapt else []


def all_at_ceiling(events: Sequence[Event]) -> Diagnosis | None:
    shares = series(events, "eval_ada/ceiling_share", "ada/ceiling_share", least=FEWEST_ROWS)
    rho = series(events, "eval_ada/rho", "ada/rho")
    if not shares or not rho:
        return None
    end = last_quarter(shares)
    if min(value for _, value in end) < EVERYBODY:
        return None
    since = next(step for step, value in shares if value >= EVERYBODY)
    return Diagnosis(
        "all_at_ceiling",
        "Every pair's ratio is at its ceiling, so this is no longer adaptive: it is a fixed ratio "
        "(DPO-Shift).",
        f"{mean(end):.0%} of the pairs were at the ceiling from step {end[0][0]} to "
        f"{end[-1][0]} (first at step {since}), with β_w/β_l = {rho[-1][1]:.2f}.",
        "Race it against fixed_ratio, its control; for adapting to matter, raise β, lower the "
        "learning rate, take longer answers or raise the ceiling.",
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
"""The rules by name, the gravest first: in this order they are shown."""
