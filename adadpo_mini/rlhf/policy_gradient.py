"""The policy gradient: answers sampled from the policy, and the loss that raises the good ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adadpo_mini.models.generate import decode
from adadpo_mini.models.load import context_length
from adadpo_mini.tokens.batch import PairBatch
from adadpo_mini.types import Model


@dataclass(frozen=True)
class SampleLoss:
    """The policy gradient on sampled answers; all but `loss` of shape (prompts, samples).

    Attributes:
        loss: the surrogate, scalar; call `backward()` on it.
        rewards: the reward model's scores, in units.
        log_ratios: log π_θ(y|x) − log π_ref(y|x), nats; their mean estimates the KL divergence.
        returns: rewards − β·log_ratios; J is their mean.
        advantages: returns minus the mean return of the other answers to the prompt.
        num_tokens: the number of tokens in all prompts and answers.
    """

    loss: Tensor
    rewards: Tensor
    log_ratios: Tensor
    returns: Tensor
    advantages: Tensor
    num_tokens: int


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return how much better each answer is than the others to the same prompt.

        A_i = R_i − mean_{j ≠ i} R_j

    The baseline does not depend on y_i, so the expected gradient stays the same while what all
    answers to a prompt have in common cancels. The A_i of a prompt sum to zero.

    Args:
        rewards: shape (prompts, samples), samples ≥ 2.

    Source: RLOO, arXiv:2402.14740.

    >>> leave_one_out(torch.tensor([[1.0, 0.0, 5.0]]))
    tensor([[-1.5000, -3.0000,  4.5000]])
    """
    samples = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * samples / (samples - 1)


def policy_gradient_loss(logps: Tensor, advantages: Tensor) -> Tensor:
    """Return a surrogate: its value means nothing, but its gradient is REINFORCE's estimate of −∇J.

        S = −mean_i sg[A_i]·log π_θ(y_i|x_i)

    Args:
        logps: log π_θ of sampled answers, with gradient. advantages: of the same shape.

    Source: Williams 1992, "Simple statistical gradient-following algorithms".

    >>> policy_gradient_loss(torch.tensor([-2.0, -4.0]), torch.tensor([1.0, -1.0])).item()
    -1.0
    """
    return -(advantages.detach() * logps).mean()


def prompts_of(rows: PairBatch) -> list[list[int]]:
    """Return the token ids of each pair's prompt, which come before the chosen completion."""
    count = len(rows.input_ids) // 2
    starts = rows.completion_mask[:count].argmax(dim=1).tolist()
    chosen_rows = rows.input_ids[:count].tolist()
    return [ids[:start] for ids, start in zip(chosen_rows, starts, strict=True)]


def sample_completions(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    end_token: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Sample one answer to each prompt from π_θ itself (temperature 1), as the gradient needs it.

    An answer ends with its end token, or without one after `max_new_tokens`.

    Returns:
        (input_ids, completion_mask), right-padded rows as `completion_logps` takes them.

    Raises:
        FloatingPointError: the model's predictions are not finite.
    """
    starts = torch.tensor([len(prompt) for prompt in prompts])
    width = min(int(starts.max()) + max_new_tokens, context_length(model))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    mask, running = torch.zeros_like(ids), torch.ones_like(starts).bool()
    stream = decode(model, prompts, lambda scores: _draw(scores.softmax(-1), generator))
    position = int(starts.min())
    while position < width and running.any():
        tokens, written = next(stream)
        written = written & running
        ids[:, position] = torch.where(written, tokens, ids[:, position])
        mask[:, position] = written
        position += 1
        running &= ~(written & (tokens == end_token)) & (position < starts + max_new_tokens)
    return ids[:, :position], mask[:, :position]


def _draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """Return one token a row, by inverting the distribution function at one random number a row.

    torch.multinomial takes several times as long, since it draws one for every word.
    """
    cumulative = probabilities.cumsum(-1)
    uniform = torch.rand(len(probabilities), 1, generator=generator)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:]).squeeze(1)
