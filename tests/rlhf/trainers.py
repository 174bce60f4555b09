"""Small RLHF trainers for tests."""

import copy

import torch

from adadpo_mini.rlhf import (
    RlhfTrainer,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moved_copy(model, by=0.0, seed=0):
    """A trainable copy, a little way off."""
    copied, noise = copy.deepcopy(model).requires_grad_(True), generator(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter += by * torch.randn(parameter.shape, generator=noise)
    return copied


def new_trainer(reference, tokenizer, moved=0.0, fit_to=(), **settings):
    settings = {"learning_rate": 1e-3, "beta": 0.1, "seed": 0, "max_new_tokens": 6, **settings}
    trainer = RlhfTrainer(moved_copy(reference, moved), reference, tokenizer, **settings)
    if fit_to:
        trainer.fit_reward_model(fit_to)
    return trainer
