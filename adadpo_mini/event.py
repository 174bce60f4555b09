"""The event: all measurements of one training step. The whole package passes it on.

A trainer makes it, the run folder keeps it, the figures and the page draw it, the doctor reads it.
"""

from collections.abc import Callable, Mapping

Event = dict[str, float]
"""A flat dict of numbers with TRL's names. Who makes which, and describes it:

    step, epoch, learning_rate, grad_norm, num_tokens, time, own_time     `Trainer.step`, `Race`
    loss, logps/…, rewards/…, ranking_accuracy, shift/…, ada/…            `measure.batch.describe`
    balance/ratio        per token; 1 only for answers of equal length    `measure.forces.balance`
    eval_…               the same on held-out pairs                       `Trainer.evaluate`
    rlhf/…               the reward model and the sampled answers         `RlhfTrainer.step`
    eval_kl, eval_length, displacement/…                                  `measure.slow.read`
    update/…             what the step's update does to held-out pairs    `measure.slow.watch`
    mass/…               means over held-out prompts                      `measure.ledgers.read`
    mass/…/low, /high    the range over these prompts

Log-probs, KL, lengths and mass are of π itself, which is temperature 1.
"""
OnEvent = Callable[[str, Event], None]
"""Called with (method, event) as they happen."""
Emit = Callable[[Mapping[str, Event]], None]
"""Called with the events of one step, by method."""
Note = Callable[[str], None]
"""Called with a sentence for the user."""


def say_nothing(*_: object) -> None:
    """Do nothing: the default where a function is called with events or sentences."""
