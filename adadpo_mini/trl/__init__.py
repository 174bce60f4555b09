"""The losses inside TRL's `DPOTrainer`, for models and machines too large for this package.

`trainer.py` is the trainer; `engine.py` and `events.py` run it as a race, `sharding.py` counts the
memory of several GPUs. Needs TRL 1.16.
"""

from adadpo_mini.trl.trainer import (
    WITH_REFERENCE,
    AdaDPOConfig,
    AdaDPOTrainer,
    check_method,
    in_fp32,
)

__all__ = ["WITH_REFERENCE", "AdaDPOConfig", "AdaDPOTrainer", "check_method", "in_fp32"]
