"""Numbers that are not finite, and updates that are too large."""

import math
from collections.abc import Sequence

from adadpo_mini.doctor.case import TINY_RATE, Case, Diagnosis
from adadpo_mini.doctor.moves import find_movements
from adadpo_mini.doctor.series import Series, is_finite, median
from adadpo_mini.doctor.sides import sides_swapped

FEW_UPDATES = 10  # a fall within them is a sudden one
SPIKE = 2.0  # times the first loss; measured: at most 1.03, or 1.24 at a learning rate of 5e-4
STEEP = 20.0  # times the first gradient norm; measured: at most 3.7, or 9.5 with wrong labels
PLUNGE = 5.0  # nats within FEW_UPDATES, and more than −log π(chosen) was; measured: at most 1.4
LASTING = 5  # lines of a plain log, at least, that a jump must last
FIRST = 3  # lines of a plain log that make its start; a single batch means little


def not_finite(case: Case) -> Diagnosis | None:
    """Return a diagnosis if numbers are not finite, and no too large update explains it."""
    bad = _first_bad(case)
    if not bad or _rate_broke_it(case, bad):
        return None
    step = min(bad.values())
    names = ", ".join(name for name, first in bad.items() if first == step)
    first_step = case.events[0]["step"]
    at_once = step in (first_step, 0, 1)
    total = sum(any(_is_bad(event, name) for name in bad) for event in case.events)
    since = f"from the first line (step {step}) on" if at_once else f"since step {step}"
    zero = any(event.get("loss") == 0 for event in case.events)
    hint = " The loss of 0 is no success: trainers log a NaN loss as 0." if zero else ""
    return Diagnosis(
        "not_finite",
        f"NaN or infinite numbers {since}: "
        + (_when(step) if at_once else "the model has broken."),
        f"Not finite {since}: {names} ({total} of {len(case.events)} logged lines).{hint}",
        "The cause is the precision, the data or the weights, not the size of the updates: use "
        "bf16 or fp32 in place of fp16, look for pairs with an empty or fully truncated answer, "
        "and check that the weights of policy and reference are finite."
        if at_once
        else f"Look at the pairs of the batch before step {step} (an empty or fully truncated "
        "answer), use bf16 or fp32 in place of fp16"
        + (
            ", and clip the gradient."
            if _is_tiny(case)
            else ", clip the gradient, and try a tenth of the learning rate."
        ),
    )


def _when(step: int) -> str:
    """Return when a model broke that was broken in the first line, which may be a mean."""
    return (
        "the model was broken before any update."
        if step <= 1
        else ("most likely the model was broken before any update had an effect.")
    )


def learning_rate_too_high(case: Case) -> Diagnosis | None:
    """Return a diagnosis if loss or gradient jumped, or the chosen fell within a few updates.

    A number that is not finite counts if the run was finite before.
    """
    bad = _first_bad(case)
    if bad and not _rate_broke_it(case, bad):
        return None
    signs = [f"{name} was not a finite number at step {step}" for name, step in bad.items()]
    signs += _overshoots(case)
    if not signs:
        return None
    tiny = _is_tiny(case)
    return Diagnosis(
        "learning_rate_too_high",
        "The updates overshoot and damage the model, although the learning rate is small."
        if tiny
        else "The learning rate is too high: the updates overshoot and damage the model.",
        f"Signs: {'; '.join(signs)}.",
        "Add a warm-up and gradient clipping, and read the pairs of the batches just before: the "
        f"learning rate of {case.top_rate:.1g} is hardly the cause."
        if tiny
        else "Divide the learning rate by ten, and add a warm-up or gradient clipping if there is "
        "none.",
    )


def _is_tiny(case: Case) -> bool:
    return case.top_rate is not None and case.top_rate <= TINY_RATE


def _watched(case: Case) -> list[str]:
    """Return the names of the numbers that a healthy run keeps finite."""
    ends = ("loss", "grad_norm", "/chosen", "/rejected", "rewards/margins")
    known = (key for key in case.keys if key.endswith(ends) and "mass/" not in key)
    if case.is_own:  # its other numbers may be undefined by design
        known = (key for key in known if key in ("loss", "eval_loss", "grad_norm"))
    order = {name: i for i, name in enumerate(("loss", "eval_loss", "rewards/chosen"))}
    return sorted(known, key=lambda key: (order.get(key, 9), key))


def _is_bad(event: dict, name: str) -> bool:
    return name in event and not is_finite(event[name])


def _first_bad(case: Case) -> dict[str, int]:
    """Return where each number that is not finite is so for the first time.

    A gradient norm that is not finite counts only if it is the last one, or if there are two: fp16
    training finds its loss scale by overflowing, so a single one means nothing.
    """
    found = {}
    for name in _watched(case):
        rows = [(event["step"], is_finite(event[name])) for event in case.events if name in event]
        bad = [step for step, finite in rows if not finite]
        if bad and (name != "grad_norm" or len(bad) > 1 or not rows[-1][1]):
            found[name] = bad[0]
    return found


def _rate_broke_it(case: Case, bad: dict[str, int]) -> bool:
    """Return whether updates made the numbers infinite: they were finite before, and a race of
    this package (fp32, checked data) ended so, or the log shows the overshoot."""
    if not bad:
        return False
    step = min(bad.values())
    if case.diverged or (case.is_own and step > 0):
        return True
    finite_before = step > 1 and step > case.events[0]["step"]
    return finite_before and bool(_overshoots(case))


def _overshoots(case: Case) -> list[str]:
    """Return the signs of updates that are too large, in words."""
    movements = find_movements(case)
    falls = [one for one in movements if (one.chosen < 0 if one.fixed else one.down)]
    signs = []
    # Some losses jump by design (DPOP's penalty); then the chosen is no worse than before.
    if falls or not movements:
        signs += _jump("loss", _start_and_rest(case, "loss"), SPIKE, at_least=math.log(2))
        signs += _jump("gradient norm", _start_and_rest(case, "grad_norm"), STEEP)
    for one in falls if not sides_swapped(case) else []:
        signs += _plunge(one.path, max(PLUNGE, one.scale))
    return signs


def _plunge(path: Sequence[tuple[int, float]], bound: float) -> list[str]:
    early = [
        f"the chosen fell by {-nats:.1f} nats by the first {updates} updates"
        for updates, nats in path
        if updates <= FEW_UPDATES and nats < -bound
    ]
    return early[:1]


def _start_and_rest(case: Case, name: str) -> Series:
    """Return the rows of a number, of a plain log without the noise of single batches.

    A jump must then last: of every few lines in a row only the lowest counts.
    """
    rows = case.series(name)
    if case.is_own or len(rows) <= FIRST:
        return rows
    start = (rows[0][0], median(value for _, value in rows[:FIRST]))
    few = min(len(rows) - 1, max(LASTING, len(rows) // 10))
    windows = (rows[i : i + few] for i in range(1, len(rows) - few + 1))
    return [start, *(min(window, key=lambda row: row[1]) for window in windows)]


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
