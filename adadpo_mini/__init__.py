"""adadpo_mini: learn DPO and AdaDPO by watching them train.

    from adadpo_mini import race
    result = race(data="swap", methods=("dpo", "adadpo"), steps=120, seed=0)
    result.summary["methods"]

Read the package in this order: losses, logprobs, trainer, lockstep, run. To paste DPO and AdaDPO
into a project of your own, take one_file.py.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from adadpo_mini import moved

# ruff: noqa: F401 (a type checker reads these)
if TYPE_CHECKING:
    from adadpo_mini.config import RaceConfig
    from adadpo_mini.errors import InputError
    from adadpo_mini.lockstep import Race
    from adadpo_mini.logprobs import completion_logps
    from adadpo_mini.losses import PreferenceLoss, adadpo_loss, dpo_loss, fixed_ratio_loss
    from adadpo_mini.models import load_model
    from adadpo_mini.pairs import load_pairs
    from adadpo_mini.run import RaceResult, race, resume

# Imported when first used: torch takes a second, and `adadpo-mini --help` does not need it.
HOME = {
    "InputError": "errors",
    "PreferenceLoss": "losses",
    "Race": "lockstep",
    "RaceConfig": "config",
    "RaceResult": "run",
    "adadpo_loss": "losses",
    "completion_logps": "logprobs",
    "dpo_loss": "losses",
    "fixed_ratio_loss": "losses",
    "load_model": "models",
    "load_pairs": "pairs",
    "race": "run",
    "resume": "run",
}
__all__ = [*HOME]  # noqa: PLE0604

moved.find_at_their_old_names()


def __getattr__(name: str) -> object:
    if name in HOME:
        found = getattr(import_module(f"adadpo_mini.{HOME[name]}"), name)
        globals()[name] = found
        return found
    try:
        return import_module(f"adadpo_mini.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"adadpo_mini.{name}":
            raise
        raise AttributeError(f"module 'adadpo_mini' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *HOME})
