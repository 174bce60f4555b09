"""Run every rule on the events of a run; report the findings in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from textwrap import fill

from adadpo_mini.doctor.case import Case, Diagnosis
from adadpo_mini.doctor.missing import nothing_to_judge
from adadpo_mini.doctor.rules import RULES
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event

NOTHING = "nothing to report; a rule is skipped if its numbers are not in the log."
"""The text for a run without findings."""


def diagnose(
    events: Sequence[Event],
    *,
    diverged: bool = False,
    method: str = "",
    beta: float | None = None,
) -> list[Diagnosis]:
    """Return the diagnoses of one method's run, the most serious first; empty if it is healthy.

    If no rule finds anything and the log does not show where chosen and rejected went, the answer
    is "nothing_to_judge", which says what is missing.

    Args:
        events: a race's events, or rows of a TRL log, in any order. A key may be absent, None or
            NaN; a rule finds nothing if its numbers are missing.
        diverged: the run ended at a loss that was not finite, which therefore has no event.
        method: the method's name; no advice names what it already does.
        beta: β, which turns rewards into nats; None if unknown.

    >>> healthy = [{"step": step, "eval_shift/chosen": 0.01 * step, "eval_shift/rejected": -step}
    ...            for step in range(0, 60, 5)]
    >>> diagnose(healthy)
    []
    >>> sinking = [{**event, "eval_shift/chosen": -0.5 * event["step"]} for event in healthy]
    >>> [diagnosis.name for diagnosis in diagnose(sinking)]
    ['both_sink']
    """
    events = sorted(events, key=lambda event: event["step"])
    if diverged:
        end = events[-1]["step"] + 1 if events else 0
        events = [*events, {"step": end, "loss": math.nan}]
    case = Case(events, method, beta, diverged)
    found = [diagnosis for rule in RULES.values() if (diagnosis := rule(case)) is not None]
    missing = None if found else nothing_to_judge(case)
    return [missing] if missing else found


def diagnose_all(
    events: Mapping[str, Sequence[Event]],
    problem: str | None = None,
    beta: float | None = None,
) -> dict[str, list[Diagnosis]]:
    """Return what `diagnose` finds, for every method of a log or a race.

    Args:
        events: by method, as in `logs.Log.events` and `RaceResult.events`.
        problem: `Log.problem`, or the `problem` of a race's summary.
        beta: `Log.beta`, or what the user says.
    """
    diverged = None if problem is None else problem.partition(":")[0]
    return {
        method: diagnose(log, diverged=method == diverged, method=method, beta=beta)
        for method, log in events.items()
    }


def check_beta(beta: float | None) -> float | None:
    """Return β if it is a positive number or None.

    Raises:
        InputError: it is neither.
    """
    if beta is not None and not (math.isfinite(beta) and beta > 0):
        raise InputError(f"beta must be above 0, not {beta:g}; use the β of the run.")
    return beta


def report(found: Mapping[str, Sequence[Diagnosis]]) -> str:
    """Return the diagnoses by method, in words for a terminal."""
    blocks = []
    for method, diagnoses in found.items():
        if not diagnoses:
            blocks.append(f"{method}: {NOTHING}")
        for diagnosis in diagnoses:
            lines = (
                f"{method}: {diagnosis.what} [{diagnosis.name}]",
                f"Evidence: {diagnosis.evidence}",
                f"Advice: {diagnosis.advice}",
            )
            blocks.append("\n".join(fill(line, 98, subsequent_indent="  ") for line in lines))
    return "\n\n".join(blocks)


def as_dict(found: Mapping[str, Sequence[Diagnosis]]) -> dict[str, list[dict[str, str]]]:
    """Return the diagnoses by method, each as a dict of texts: name, what, evidence, advice."""
    return {method: [asdict(diagnosis) for diagnosis in each] for method, each in found.items()}
