"""The losses inside TRL's `DPOTrainer`, for models and machines too large for this package.

Needs `adadpo-mini[trl]`.
"""

from adadpo_mini.trl.trainer import AdaDPOConfig, AdaDPOTrainer, check_method

__all__ = ["AdaDPOConfig", "AdaDPOTrainer", "check_method"]
