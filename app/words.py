"""What the page says in words."""

from adadpo_mini.figures import LABELS
from app.engine import LiveRun


def status(run: LiveRun | None) -> str:
    """A line on how far a run is, and a line a method on what chosen and rejected do."""
    if run is None:
        return "Press **Start** to train a small GPT-2 with DPO and with AdaDPO on the same pairs."
    if run.status == "failed":
        return f"**The race failed.** {run.problem}"
    if run.status == "preparing":
        return "Preparing the pairs and the models …"
    settings = run.settings
    total = settings["steps"]
    head = {
        "running": f"**Step {run.step} of {total}**",
        "finished": f"**Finished after {total} steps**",
        "stopped": f"**Stopped at step {run.step} of {total}**",
    }[run.status]
    about = (
        f"{settings['data']}, β {settings['beta']:g}, learning rate "
        f"{settings['learning_rate']:g}, seed {settings['seed']}"
    )
    return "  \n".join([f"{head} ({about}).", *describe_shifts(run)])


def describe_shifts(run: LiveRun) -> list[str]:
    """A sentence for each method about its last held-out measurement."""
    latest = {method: event for method, event in list(run.events) if "eval_loss" in event}
    return [
        f"**{LABELS[method]}**: the chosen answers {_moved(event['eval_shift/chosen'])}, "
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
