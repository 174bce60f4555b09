"""What a log would have to contain to be judged."""

from adadpo_mini.doctor.case import Case, Diagnosis
from adadpo_mini.doctor.moves import find_movements
from adadpo_mini.doctor.trend import FEWEST

SHOWN = 8  # names


def nothing_to_judge(case: Case) -> Diagnosis | None:
    """Return a diagnosis if the log does not show where chosen and rejected went.

    A race of this package that has only begun is not meant: its numbers come.
    """
    if not case.events or case.is_own or find_movements(case):
        return None
    names = sorted(case.keys - {"step", "epoch", "time"})
    has = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    steps = f"step {case.events[0]['step']} to {case.events[-1]['step']}"
    return Diagnosis(
        "nothing_to_judge",
        "Nothing to judge by: the log does not show whether chosen and rejected rise or fall.",
        f"It has {len(case.events)} lines ({steps}) with {has or 'no numbers'}. {_lack(case)}",
        _remedy(case),
    )


def _lack(case: Case) -> str:
    if not case.has_reference:
        return (
            "Its rewards are multiples of the log-probs, without a reference, and every batch has "
            "other pairs, so neither shows a movement."
        )
    lines = len(case.series("rewards/chosen"))
    if lines and case.series("rewards/rejected"):
        return f"Only {lines} of them have rewards; at least {FEWEST} are needed."
    return (
        "Missing: rewards/chosen and rewards/rejected (or eval_rewards/…). The loss alone hides it."
    )


def _remedy(case: Case) -> str:
    if not case.has_reference:
        return "Evaluate on a fixed set (eval_strategy); the doctor compares its log-probs."
    if "percentage" in case.keys or "total_steps" in case.keys:
        return "Give the trainer_state.json of the same output folder, which has the rewards."
    if case.series("rewards/chosen"):
        return "Train longer or log more often (logging_steps), or evaluate on a fixed set."
    return (
        "Give the trainer_state.json of the run, or export rewards/chosen and rewards/rejected, "
        "too; best of all, evaluate on a fixed set (eval_strategy)."
    )
