"""RLHF in miniature, the method that DPO replaced: a reward model, then a policy gradient.

Read `trainer.py` first, then `reward_model.py` and `policy_gradient.py`.
"""

from adadpo_mini.rlhf.policy_gradient import (
    leave_one_out,
    policy_gradient_loss,
    prompts_of,
    sample_completions,
)
from adadpo_mini.rlhf.reward_model import RewardModel, bradley_terry_loss
from adadpo_mini.rlhf.trainer import RlhfTrainer, SampleLoss

__all__ = [
    "RewardModel",
    "RlhfTrainer",
    "SampleLoss",
    "bradley_terry_loss",
    "leave_one_out",
    "policy_gradient_loss",
    "prompts_of",
    "sample_completions",
]
