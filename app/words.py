"""What the page says in words."""

from collections.abc import Mapping, Sequence

from adadpo_mini.figures import LABELS
from adadpo_mini.trainer import Event
from app.runs import PAGE, Run, last_step

SAID = ("eval_shift/chosen", "eval_shift/rejected", "eval_rewards/accuracies")


def status(run: Run | None) -> str:
    """A line on how far a run is, and a line a method on what chosen and rejected do."""
    if run is None:
        return "Press **Start** to train a small GPT-2 with DPO and with AdaDPO on the same pairs."
    state, settings = run.status, run.settings
    recent = run.recent()  # read once: this is asked four times a second
    total, step = settings["steps"], last_step(recent)
    if state in ("failed", "diverged"):
        return f"**The race {state}.** {run.problem}"
    if state == "preparing":
        return "Preparing the pairs and the models …"
    running = "All steps done; judging the answers" if step == total else f"Step {step} of {total}"
    head = {
        "running": f"**{running}**",
        "finished": f"**Finished after {total} steps**",
        "interrupted": f"**Stopped at step {step} of {total}**",
    }[state]
    about = (
        f"{settings['data']}, β {settings['beta']:g}, learning rate "
        f"{settings['learning_rate']:g}, seed {settings['seed']}"
    )
    return "  \n".join([f"{head} ({about}).", *describe_shifts(recent)])


def whose(run: Run) -> str:
    """Where a race that this page did not start comes from."""
    if run.settings.get("started_by") == PAGE:
        return "This race was started in another window."
    return f"This race was not started on a page; it is read from the folder {run.id}."


def is_measured(event: Event) -> bool:
    """Whether an event has what is drawn and told of it."""
    return "eval_loss" in event and all(isinstance(event.get(name), (int, float)) for name in SAID)


def describe_shifts(recent: Mapping[str, Sequence[Event]]) -> list[str]:
    """A sentence for each method about its last held-out measurement, from its last events."""
    latest = {
        method: event for method, events in recent.items() for event in events if is_measured(event)
    }
    return [
        f"**{LABELS.get(method, method)}**: the chosen answers "
        f"{_moved(event['eval_shift/chosen'])}, "
        f"the rejected {_moved(event['eval_shift/rejected'])}; "
        f"accuracy {event['eval_rewards/accuracies']:.0%}."
        for method, event in latest.items()
        if event["step"] > 0
    ]


def _moved(shift: float) -> str:
    amount = f"{shift:+.1f} nats".replace("-", "−")
    if abs(shift) < 0.5:
        return f"hardly moved ({amount})"
    return f"{'rose' if shift > 0 else 'fell'} ({amount})"
