"""The policy gradient: answers sampled from the policy, and the loss that raises the good ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adadpo_mini.models.load import context_length
from adadpo_mini.tokens.batch import PairBatch


def leave_one_out(rewards: Tensor) -> Tensor:
    """How much better each answer is than the other answers to the same prompt.

        A_i = R_i − mean_{j ≠ i} R_j

    The baseline does not depend on y_i, so it leaves the expected gradient as it is, and takes out
    of it what all answers to a prompt have in common. The A_i of a prompt sum to zero.

    Args:
        rewards: shape (prompts, samples), samples ≥ 2.

    Source: RLOO, arXiv:2402.14740.

    >>> leave_one_out(torch.tensor([[1.0, 0.0, 5.0]]))
    tensor([[-1.5000, -3.0000,  4.5000]])
    """
    samples = rewards.shape[1]
    return (rewards - rewards.mean(dim=1, keepdim=True)) * samples / (samples - 1)


def policy_gradient_loss(logps: Tensor, advantages: Tensor) -> Tensor:
    """A surrogate: its value says nothing, but its gradient is REINFORCE's estimate of −∇J.

        S = −mean_i sg[A_i]·log π_θ(y_i|x_i)

    Args:
        logps: log π_θ of sampled answers, with gradient. advantages: of the same shape.

    Source: Williams 1992, "Simple statistical gradient-following algorithms".

    >>> policy_gradient_loss(torch.tensor([-2.0, -4.0]), torch.tensor([1.0, -1.0])).item()
    -1.0
    """
    return -(advantages.detach() * logps).mean()


def prompts_of(rows: PairBatch) -> list[list[int]]:
    """The token ids of each pair's prompt: what stands before the chosen completion."""
    count = len(rows.input_ids) // 2
    starts = rows.completion_mask[:count].argmax(dim=1).tolist()
    chosen_rows = rows.input_ids[:count].tolist()
    return [ids[:start] for ids, start in zip(chosen_rows, starts, strict=True)]


@torch.no_grad()
def sample_completions(
    model,
    prompts: Sequence[Sequence[int]],
    *,
    end_token: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One answer to each prompt, sampled from π_θ itself (temperature 1), as the gradient needs it.

    All rows march in step from the end of the shortest prompt on; a row with a longer prompt goes
    on reading until that is over. So prompts of any lengths make one batch, without padding on the
    left. An answer ends with its end token, or without one after `max_new_tokens`.

    Returns:
        (input_ids, completion_mask), right-padded rows as `completion_logps` takes them.

    Raises:
        FloatingPointError: the model's predictions are no numbers.
    """
    starts = torch.tensor([len(prompt) for prompt in prompts])
    width = min(int(starts.max()) + max_new_tokens, context_length(model))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    mask = torch.zeros_like(ids)
    running, cache, position, read = torch.ones_like(starts).bool(), None, int(starts.min()), 0
    while position < width and running.any():
        output = model(
            input_ids=ids[:, read:position], past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        cache, read = output.past_key_values, position
        tokens = _draw(output.logits[:, -1].float().softmax(-1), generator)
        writing = running & (position >= starts)
        ids[:, position] = torch.where(writing, tokens, ids[:, position])
        mask[:, position] = writing
        position += 1
        running &= ~(writing & (tokens == end_token)) & (position < starts + max_new_tokens)
    return ids[:, :position], mask[:, :position]


def _draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One token a row by inverting the distribution function at one random number a row;
    torch.multinomial takes several times as long, as it draws one for every word there is."""
    cumulative = probabilities.cumsum(-1)
    if not cumulative[:, -1].isfinite().all():
        raise FloatingPointError(
            "rlhf: the policy's predictions are no numbers; training has diverged, lower the "
            "learning rate."
        )
    uniform = torch.rand(len(probabilities), 1, generator=generator)
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:]).squeeze(1)
