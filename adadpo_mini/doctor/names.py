"""What other trainers and trackers call the numbers that TRL logs, as TRL's names."""

import re
from collections.abc import Iterable

STEPS = (
    "step",
    "train/global_step",
    "global_step",
    "trainer/global_step",
    "current_steps",
    "training_step",
    "Step",
    "_step",
)
"""Names of the step, the best first: W&B counts its own `_step`s, which are not updates."""

ALIASES = {
    "lr": "learning_rate",
    "accuracy": "rewards/accuracies",
    "acc": "rewards/accuracies",
    "eval_accuracy": "eval_rewards/accuracies",
    "rewards/accuracy": "rewards/accuracies",
    "rewards/margin": "rewards/margins",
    "chosen_reward": "rewards/chosen",
    "reject_reward": "rewards/rejected",
    "log_probs/chosen": "logps/chosen",
    "log_probs/rejected": "logps/rejected",
    "loss/train": "loss",
    "loss/eval": "eval_loss",
}
CURVE = re.compile(r"(?P<run>.+?) - (?P<name>(?:train|eval)/.+?|[^ ]+?)(?P<end>__MIN|__MAX)?")
SPLIT_FIRST = re.compile(r"(rewards|logps|loss|grad_norm)_(train|eval)(?=/|$)")


def trl_name(name: str) -> str:
    """Return TRL's name for a number, or the name itself if it has none.

    >>> trl_name("train/rewards/chosen"), trl_name("eval/help_loss"), trl_name("lr")
    ('rewards/chosen', 'eval_help_loss', 'learning_rate')
    """
    name = name.strip()
    split = SPLIT_FIRST.match(name)
    if split:
        name = f"{split[2]}/{split[1]}{name[split.end() :]}"
    if name.startswith("train/"):
        name = name.removeprefix("train/")
    elif name.startswith("eval/"):
        name = f"eval_{name.removeprefix('eval/')}"
    return ALIASES.get(name, name)


def step_name(names: Iterable[str]) -> str | None:
    """Return which of the names is the step's; None if none is."""
    present = set(names)
    return next((name for name in STEPS if name in present), None)


def curve(column: str) -> tuple[str, str] | None:
    """Return (run, number) of a column that W&B exports from a panel.

    None if it is not one, or only the band around a curve.

    >>> curve("lucky-sun-3 - train/loss"), curve("lucky-sun-3 - train/loss__MAX"), curve("loss")
    (('lucky-sun-3', 'train/loss'), None, None)
    """
    match = CURVE.fullmatch(column)
    return (match["run"], match["name"]) if match and not match["end"] else None
