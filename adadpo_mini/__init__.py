"""adadpo_mini: learn DPO and AdaDPO by watching them train.

    from adadpo_mini import race
    result = race(data="swap", methods=("dpo", "adadpo"), steps=120, seed=0)
    result.summary["methods"]

Read the package in this order: pairs, models, logprobs, losses, trainer, race.
"""

# ruff: noqa: E402, I001 (what comes after takes a second, in which a signal may come)
from adadpo_mini.cli import catch_early

catch_early()

from adadpo_mini.contest import Race
from adadpo_mini.errors import InputError
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.losses import PreferenceLoss, adadpo_loss, dpo_loss, fixed_ratio_loss
from adadpo_mini.models import load_model
from adadpo_mini.pairs import load_pairs
from adadpo_mini.race import RaceResult, race
from adadpo_mini.resuming import resume
from adadpo_mini.settings import RaceConfig

__all__ = [
    "InputError",
    "PreferenceLoss",
    "Race",
    "RaceConfig",
    "RaceResult",
    "adadpo_loss",
    "completion_logps",
    "dpo_loss",
    "fixed_ratio_loss",
    "load_model",
    "load_pairs",
    "race",
    "resume",
]
