"""The first lines of a log: what is wrong before any training can have done it."""

from adadpo_mini.doctor.case import Case, Diagnosis
from adadpo_mini.doctor.moves import evaluation_sets
from adadpo_mini.doctor.series import SIDES, Series, is_finite, median
from adadpo_mini.doctor.stuck import FEWEST_ROWS

OFF = 0.02  # of a reward before any update; bf16 sums differ by less
FAR = 5.0  # nats; rounding and dropout rarely reach that
NOISE = 4.0  # times the scatter of the later lines
EARLY = 20  # updates
LEARNED_ALREADY = 0.1  # nats of loss: a margin of 2.3, after a few updates


def no_answer_tokens(case: Case) -> Diagnosis | None:
    """Return a diagnosis if log-probs are exactly 0: the mask covers every answer token."""
    found = {}
    for name in sorted(case.keys):
        if name.rpartition("/")[0].endswith("logps") and name.rpartition("/")[2] in SIDES:
            rows = case.series(name)
            zero = [step for step, value in rows if value == 0]
            if len(zero) >= min(2, len(rows)) and zero:
                found[name] = (zero[0], len(zero), len(rows))
    if not found:
        return None
    words = [
        f"{name} is exactly 0 in {zeros} of {lines} lines (first at step {step})"
        for name, (step, zeros, lines) in found.items()
    ]
    return Diagnosis(
        "no_answer_tokens",
        "No answer token is scored: a log-prob of exactly 0 is the sum over no tokens.",
        f"{'; '.join(words)}.",
        "Look at a batch's labels or completion mask: the answer is masked or cut off. Check the "
        "chat template, the response marker, and that the longest prompt leaves room for it.",
    )


def reference_is_base(case: Case) -> Diagnosis | None:
    """Return a diagnosis if the very first line says that everything is learned already."""
    loss = case.series("loss", least=FEWEST_ROWS)
    right = case.series("rewards/accuracies", least=FEWEST_ROWS)
    if case.is_own or not loss or not right or loss[0][0] > EARLY:
        return None
    margins = case.series("rewards/margins")
    if not is_finite(loss[0][1]) or loss[0][1] > LEARNED_ALREADY or right[0][1] < 0.99:
        return None
    if margins and margins[0][1] <= 1:
        return None
    margin = f", margin {margins[0][1]:.1f}" if margins else ""
    return Diagnosis(
        "reference_is_base",
        "The first line already shows a loss near 0 and an accuracy of 1: the reference is not "
        "the model that training starts from.",
        f"At step {loss[0][0]}: loss {loss[0][1]:.2g}, accuracy {right[0][1]:.0%}{margin}. With "
        "the right reference the loss starts at ln 2 = 0.69.",
        "Give the fine-tuned (SFT) start as the reference, not the base model; with adapters, "
        "merge the SFT adapter before training or keep it in the reference.",
    )


def rewards_not_zero_at_start(case: Case) -> Diagnosis | None:
    """Return a diagnosis if rewards differ from 0 before the first update."""
    found = first_rewards(case)
    if found is None or reference_is_base(case):
        return None
    start, step, chosen, rejected = found
    nats = max(abs(chosen), abs(rejected)) / (case.beta or 0.1)
    is_eval = start != ""
    where = "the first evaluation" if is_eval else "the first batch"
    small = (
        "The difference is small: dropout is on, policy and reference have different precision, or "
        "padding changes the scores (the reference's were computed in batches of another size). "
        "Turn dropout off, use one precision, and check the attention mask."
    )
    large = (
        "Check that the reference is the very model that training starts from (not the base model, "
        "another checkpoint or a lost adapter) and that cached reference scores belong to these "
        "pairs in this order; then dropout, precision and padding."
    )
    return Diagnosis(
        "rewards_not_zero_at_start",
        f"The rewards are not 0 before the first update: in {where} policy and reference differ, "
        "although they should be the same model.",
        f"At step {step}: {start}rewards/chosen {chosen:+.3g}, {start}rewards/rejected "
        f"{rejected:+.3g} (β·nats); both should be exactly 0.",
        large if nats > FAR else small,
    )


def first_rewards(case: Case) -> tuple[str, int, float, float] | None:
    """Return (evaluation set, step, chosen, rejected) of rewards before any update that are off.

    TRL logs the first batch as step 1; its metrics are from before the update. A later first line
    is a mean over updates and says nothing.
    """
    if case.is_own or not case.has_reference:
        return None
    for start, latest in (("", 1), *((name, 0) for name in evaluation_sets(case))):
        rows = [case.series(f"{start}rewards/{side}") for side in SIDES]
        if not all(rows) or rows[0][0][0] > latest:
            continue
        off = [abs(side[0][1]) >= OFF and _stands_out(side) for side in rows]
        if any(off):
            return start, rows[0][0][0], rows[0][0][1], rows[1][0][1]
    return None


def _stands_out(rows: Series) -> bool:
    """Return whether the first value is more than what later lines scatter by.

    In a short log any value counts; a long one must show that the value is not filled in from the
    lines around it, as trackers that average or smooth do.
    """
    if len(rows) <= EARLY:
        return True
    jumps = [abs(b - a) for (_, a), (_, b) in zip(rows, rows[1:], strict=False)]
    return abs(rows[0][1]) > NOISE * max(jumps[0], median(jumps))
