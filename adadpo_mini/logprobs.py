"""Completion log-probs: how likely an answer is under a model, given its prompt."""

import torch
from torch import Tensor


def token_logps(logits: Tensor, input_ids: Tensor) -> Tensor:
    """Log-prob of every token given those before it.

        log π(t_i | t_<i) = logits[i − 1][t_i] − logsumexp(logits[i − 1])

    Args:
        logits: scores at each of the last k positions, shape (rows, k, vocabulary).
        input_ids: the tokens, shape (rows, time), time ≥ k.

    Returns:
        Log-probs of the last k − 1 tokens, nats, fp32 at least, shape (rows, k − 1).

    >>> flat = torch.zeros(1, 3, 4)  # four equally likely tokens at each of three positions
    >>> token_logps(flat, torch.tensor([[0, 1, 2]]))  # log 1/4 for each
    tensor([[-1.3863, -1.3863]])
    """
    k = logits.shape[1]
    scores = logits[:, :-1]  # position i scores the token at i + 1
    if scores.dtype != torch.float64:
        scores = scores.float()
    targets = input_ids[:, input_ids.shape[1] - k + 1 :]
    picked = scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return picked - scores.logsumexp(-1)


def completion_logps(model: torch.nn.Module, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Log-prob of each row's completion, summed over its tokens.

        log π(y|x) = Σ_t log π(y_t | x, y_<t)

    Rows are padded on the right. A causal model never looks to the right, so the padding cannot
    change a completion's log-prob and no attention mask is needed.

    Args:
        model: a causal language model of transformers.
        input_ids: prompt, completion, padding, shape (rows, time).
        completion_mask: 1 on the completion's tokens, its end token included; 0 on the prompt and
            the padding; shape (rows, time).

    Returns:
        Shape (rows,), nats. A sum, not an average: DPO's β is about sums.

    Raises:
        ValueError: the shapes differ, or a completion begins at position 0, without a prompt.
    """
    if input_ids.shape != completion_mask.shape:
        raise ValueError(f"shapes differ: {input_ids.shape} and {completion_mask.shape}")
    first = int(completion_mask.any(dim=0).int().argmax())  # the earliest completion token
    if first == 0:
        raise ValueError("a completion must follow a prompt of at least one token")
    # Scores are needed only from the token before the first completion token on.
    keep = input_ids.shape[1] - first + 1
    logits = model(input_ids=input_ids, use_cache=False, logits_to_keep=keep).logits
    return (token_logps(logits, input_ids) * completion_mask[:, first:]).sum(dim=1)
