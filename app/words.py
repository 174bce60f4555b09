"""What the page says in words."""

from collections.abc import Mapping, Sequence

from adadpo_mini.event import Event
from adadpo_mini.figures import LABELS
from adadpo_mini.store.summary import WIN_RATES

from .markup import render
from .runs import PAGE, Run, last_step

NAMED = ("eval_shift/chosen", "eval_shift/rejected", "eval_rewards/accuracies")
WELCOME = "Press Start to train a small GPT-2 with DPO and with AdaDPO on the same pairs."
PREPARING = "Preparing the pairs and the models …"
WITH_STEPS = ("running", "finished", "interrupted")


def status(run: Run | None, *, own: bool = True) -> str:
    """Return the HTML that says how far a run is and what chosen and rejected do.

    Args:
        own: whether this page started the run; if not, the text says where it comes from.
    """
    if run is None:
        return _html(detail=WELCOME)
    state, recent = run.status, run.recent()  # read once: a page asks four times a second
    headline, detail = _progress(run, state, last_step(recent))
    summary = run.folder.summary() if state == "finished" else None
    shifts = describe_shifts(recent, summary) if state in WITH_STEPS else []
    return _html(headline, detail, shifts, "" if own else whose(run))


def unreadable(problem: object) -> str:
    """Return the HTML for a run whose folder is damaged."""
    return _html("This run cannot be read.", problem)


def _html(
    headline: str = "",
    detail: object = "",
    shifts: Sequence[tuple[str, str]] = (),
    origin: str = "",
) -> str:
    values = {"headline": headline, "detail": detail, "shifts": shifts, "origin": origin}
    return render("status.html", **values)


def _progress(run: Run, state: str, step: int) -> tuple[str, str]:
    """Return how far the run is, as a headline and the text after it."""
    settings = run.settings
    total = settings["steps"]
    if state == "preparing":
        return "", PREPARING
    if state not in WITH_STEPS:
        return f"The race {state}.", run.problem
    headline = {
        "running": f"Step {step} of {total}",
        "finished": f"Finished after {total} steps",
        "interrupted": f"Stopped at step {step} of {total}",
    }[state]
    if state == "running" and step == total:
        headline = "All steps done; judging the answers"
    about = (
        f"({settings['data']}, β {settings['beta']:g}, learning rate "
        f"{settings['learning_rate']:g}, seed {settings['seed']})."
    )
    return headline, about


def whose(run: Run) -> str:
    """Return where a race comes from that this page did not start."""
    if run.settings.get("started_by") == PAGE:
        return "This race was started in another window."
    return f"This race was not started on a page; it is read from the folder {run.id}."


def is_measured(event: Event) -> bool:
    """Return whether an event has the held-out numbers that the page shows."""
    return "eval_loss" in event and all(isinstance(event.get(name), (int, float)) for name in NAMED)


def describe_shifts(
    recent: Mapping[str, Sequence[Event]], summary: Mapping | None = None
) -> list[tuple[str, str]]:
    """Return a label and a sentence for each method, from its last held-out measurement.

    Args:
        summary: of a race that has ended; it has the win rates.
    """
    latest = {
        method: event for method, events in recent.items() for event in events if is_measured(event)
    }
    return [
        (
            LABELS.get(method, method),
            f"the chosen answers {_moved(event['eval_shift/chosen'])}, "
            f"the rejected {_moved(event['eval_shift/rejected'])}; "
            f"accuracy {event['eval_rewards/accuracies']:.0%}"
            f"{_ranking(event)}{_win_rates(summary, method)}.",
        )
        for method, event in latest.items()
        if event["step"] > 0
    ]


def _ranking(event: Event) -> str:
    """Return the ranking accuracy, which needs no reference."""
    share = event.get("eval_ranking_accuracy")
    return "" if share is None else f", the chosen likelier in {share:.0%} of pairs"


def _win_rates(summary: Mapping | None, method: str) -> str:
    """Return the win rates, each with its temperature."""
    row = (summary or {}).get("methods", {}).get(method, {})
    known = [
        f"{row[n]:.0%} at temperature {t:g}" for n, t in WIN_RATES.items() if row.get(n) is not None
    ]
    return f"; win rate against the reference {', '.join(known)}" if known else ""


def _moved(shift: float) -> str:
    amount = f"{shift:+.1f} nats".replace("-", "−")
    if abs(shift) < 0.5:
        return f"hardly moved ({amount})"
    return f"{'rose' if shift > 0 else 'fell'} ({amount})"
