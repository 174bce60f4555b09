"""A run that does not move: found for every loss, told apart by cause."""

import math

from adadpo_mini.doctor.case import Case, Diagnosis
from adadpo_mini.doctor.moves import evaluation_sets
from adadpo_mini.doctor.series import SIDES, Series, is_finite, mean
from adadpo_mini.doctor.trend import trend

FEW_UPDATES = 10  # too few to call a run stuck
FEWEST_ROWS = 3  # that a log needs before a value can be called constant
STILL = 1e-3  # relative to the loss; nats of ln 2. The margin may be twice that
NOISY_STILL = 0.05  # of a margin: bf16 rounds log-probs of long answers by half a nat
MANY_ROWS = 20  # that show that noise is only noise
NO_REACH = 1e-6  # learning rate times updates: AdamW moves a weight by less than that in all
BF16_REACH = 1e-5  # learning rate; bf16 rounds changes of a weight of 0.02 below 6e-5 away
COMPANION = 0.5  # nats by which fixed log-probs moved although no reward did


def nothing_moved(case: Case) -> Diagnosis | None:
    """Return a diagnosis if loss and margins are where they started, whatever the loss."""
    loss = case.series("eval_loss", "loss", least=FEWEST_ROWS)
    margins = margin_rows(case)
    rows = margins or loss
    if not rows or rows[-1][0] < FEW_UPDATES or not _is_still(case, loss, margins):
        return None
    if _all_zero(case, "logps/chosen") or any(not is_finite(v) for v in _raw(case)):
        return None
    at = f"the loss stayed at {_named(mean(loss))}" if loss else "no loss is logged"
    margin = max(abs(value) for _, value in margins) if margins else None
    grads = case.series("grad_norm")
    gradient = f" The gradient norm was {mean(grads):.2g} on average." if grads else ""
    rate = (
        f" The learning rate was at most {case.top_rate:.2g}." if case.top_rate is not None else ""
    )
    no_margin = "" if margin is None else f", and no margin exceeded {margin:.1g}"
    return Diagnosis(
        "nothing_moved",
        "Nothing has moved: the model still answers like the reference.",
        f"From step {rows[0][0]} to {rows[-1][0]} {at}{no_margin}.{gradient}{rate}",
        _cause(case, margin),
    )


def margin_rows(case: Case) -> Series:
    """Return the margins, or the differences of the rewards if margins are not logged."""
    for start in ("eval_", ""):
        rows = case.series(f"{start}rewards/margins", least=FEWEST_ROWS)
        if not rows:
            chosen, rejected = (dict(case.series(f"{start}rewards/{side}")) for side in SIDES)
            rows = [(step, v - rejected[step]) for step, v in chosen.items() if step in rejected]
        if len(rows) >= FEWEST_ROWS:
            return rows
    return []


def _is_still(case: Case, loss: Series, margins: Series) -> bool:
    start = loss[0][1] if loss else 0.0
    off = max((abs(value - start) for _, value in loss), default=0.0)
    spread = STILL * max(1.0, abs(start))
    if margins:
        top = max(abs(value) for _, value in margins)
        if top <= 2 * STILL:
            at_ln2 = all(abs(v - math.log(2)) <= STILL for _, v in loss)
            return at_ln2 or off <= spread
        return _is_noise(loss, margins, top)
    accuracies = [v for _, v in case.series("rewards/accuracies")]
    learned = bool(accuracies) and max(accuracies) > 0.9
    return bool(loss) and start > 0.1 and off <= STILL * abs(start) and not learned


def _is_noise(loss: Series, margins: Series, top: float) -> bool:
    """Return whether margins scatter around 0 without a trend, as rounding makes them."""
    if len(margins) < MANY_ROWS or margins[-1][0] < 10 * FEW_UPDATES or top > NOISY_STILL:
        return False
    found = trend([value for _, value in margins], [step for step, _ in margins])
    flat = found is not None and found.sign == 0 and abs(mean(margins)) < top / 4
    return flat and all(abs(v - loss[0][1]) <= NOISY_STILL * abs(loss[0][1]) for _, v in loss)


def _raw(case: Case) -> list[object]:
    names = ("rewards/chosen", "rewards/margins")
    return [event[name] for event in case.events for name in names if name in event]


def _all_zero(case: Case, name: str) -> bool:
    rows = case.series(name)
    return bool(rows) and all(value == 0 for _, value in rows)


def _named(loss: float) -> str:
    """Return a loss with the name of its value, if it has one."""
    times = loss / math.log(2)
    if abs(loss - math.log(2)) < STILL:
        return "ln 2 = 0.6931"
    if times > 1.5 and abs(times - round(times)) < 1e-3:
        return f"{loss:.4g} = {round(times)} · ln 2"
    if loss > 2:
        return f"{loss:.4g}, which is IPO's start (1/(2β))² for β = {0.5 / math.sqrt(loss):.2g}"
    return f"{loss:.4g}"


def _cause(case: Case, margin: float | None) -> str:
    """Return the advice for the likely cause."""
    grads = [value for _, value in case.series("grad_norm")]
    rate, updates = case.top_rate, case.events[-1]["step"]
    raise_it = "Raise the learning rate tenfold, and again until the margins grow"
    if grads and max(grads) == 0:
        return (
            "The gradient is zero: check that parameters are trainable, that β is not 0, that "
            "chosen and rejected differ after truncation, and that policy and reference are not "
            "the same model."
        )
    if rate == 0:
        return "The learning rate is 0 in every row: check the schedule and its number of steps."
    if _reference_follows(case):
        return (
            "The log-probs of the evaluation set move although no reward does, so the reference "
            "moves along: give the trainer a separate, frozen copy of the model as the reference."
        )
    if rate is not None and rate * updates < NO_REACH:
        return f"{raise_it}: at {rate:.2g} no weight can move; check whether warm-up ever ended."
    if margin == 0 and grads:
        return (
            "There is a gradient and a learning rate, but every reward is exactly 0, so no weight "
            "changes: bf16 weights round small updates away (keep the weights in fp32 and use "
            "bf16 autocast), the optimizer does not have the parameters, or policy and reference "
            "are the same model."
        )
    if rate is not None and rate <= BF16_REACH:
        return (
            "If the weights are in bf16, small updates are rounded away: keep them in fp32 (bf16 "
            "autocast is fine). If they are in fp32, raise the learning rate tenfold."
        )
    return f"{raise_it}; check whether the run ended during warm-up."


def _reference_follows(case: Case) -> bool:
    for start in evaluation_sets(case):
        rows = case.series(f"{start}logps/chosen", least=2)
        if rows and abs(rows[-1][1] - rows[0][1]) > COMPANION:
            return True
    return False
