r"""DPO and AdaDPO in one file, from preference pairs to trained weights. Copy it and change it.

It needs torch, and a causal language model and its tokenizer from transformers:

    pairs = [{"prompt": "Why?\n", "chosen": "Because.", "rejected": "No."}]
    train(model, tokenizer, pairs, method="adadpo", steps=10)

A test checks that the package computes the same. Sources: arXiv:2305.18290, arXiv:2605.28440.
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


# 1. The losses. Each log-prob is a sum over the tokens of a completion, shape (batch,), in nats.
def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """L = −log σ(β·u_w − β·u_l),  u = log π_θ(y|x) − log π_ref(y|x); the mean over the batch.

    >>> zero = torch.zeros(1)
    >>> dpo_loss(zero, zero, zero, zero)  # log 2: nothing learned yet
    tensor(0.6931)
    """
    u_w = policy_chosen_logps - ref_chosen_logps
    u_l = policy_rejected_logps - ref_rejected_logps
    return -F.logsigmoid(beta * u_w - beta * u_l).mean()


def adadpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    ceiling: float = 2.0,
) -> Tensor:
    """DPO with a weight on the chosen side: it balances two answers of equal length, pair by pair.

        ρ = exp(u_w/|y_w| − u_l/|y_l|)
        L = −log σ(β_w·u_w − β·u_l),   β_w = β·sg[min(ρ, C)]

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> adadpo_loss(one, zero, zero, zero, chosen_lengths=one, rejected_lengths=one)  # ρ = e, C = 2
    tensor(0.5981)
    """
    u_w = policy_chosen_logps - ref_chosen_logps
    u_l = policy_rejected_logps - ref_rejected_logps
    rho = (u_w / chosen_lengths - u_l / rejected_lengths).exp()
    beta_w = beta * rho.clamp(max=ceiling).detach()  # a weight, not something to optimise
    return -F.logsigmoid(beta_w * u_w - beta * u_l).mean()


# 2. The log-probs.
def completion_logps(model: torch.nn.Module, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """log π(y|x) of each row, summed over the tokens of its completion, shape (rows,)."""
    logits = model(input_ids=input_ids, use_cache=False).logits[:, :-1].float()
    targets = input_ids[:, 1:]  # position i predicts token i + 1
    logps = logits.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return (logps * completion_mask[:, 1:]).sum(-1)


# 3. The tokens.
def encode(tokenizer: Callable, prompt: str, completion: str) -> tuple[list[int], int]:
    """Token ids of prompt and completion with an end token, and the length of the prompt."""
    prompt_ids = tokenizer(prompt)["input_ids"]
    if not prompt_ids:  # nothing would predict the completion's first token
        raise ValueError("a prompt must have at least one token")
    ids = tokenizer(prompt + completion)["input_ids"]
    if ids[: len(prompt_ids)] != prompt_ids:  # a token would reach across the border
        ids = prompt_ids + tokenizer(completion, add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id], len(prompt_ids)


def make_batch(tokenizer: Callable, pairs: list[dict]) -> tuple[Tensor, Tensor]:
    """(input_ids, completion_mask) of 2·B rows, padded on the right: B chosen, then B rejected.

    A causal model never looks to the right, so it needs no attention mask.
    """
    sides = [(pair["prompt"], pair[side]) for side in ("chosen", "rejected") for pair in pairs]
    rows = [encode(tokenizer, prompt, completion) for prompt, completion in sides]
    input_ids = torch.zeros(len(rows), max(len(ids) for ids, _ in rows), dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for i, (ids, start) in enumerate(rows):
        input_ids[i, : len(ids)] = torch.tensor(ids)
        mask[i, start : len(ids)] = 1
    return input_ids, mask


def batches(pairs: list[dict], batch_size: int, seed: int) -> Iterator[list[dict]]:
    """Batches without end; each epoch visits the pairs in a new order that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    size = min(batch_size, len(pairs))
    while True:
        order = torch.randperm(len(pairs), generator=generator).tolist()
        for start in range(0, len(pairs) - size + 1, size):
            yield [pairs[i] for i in order[start : start + size]]


# 4. The loop.
def train(
    model: torch.nn.Module,
    tokenizer: Callable,
    pairs: list[dict],
    *,
    method: str = "adadpo",
    steps: int = 120,
    batch_size: int = 16,
    learning_rate: float = 1e-4,
    beta: float = 1.0,
    seed: int = 0,
) -> list[dict[str, float]]:
    """Train `model` in place; return each step's loss and mean u of each side before its update."""
    if not pairs or method not in ("dpo", "adadpo"):
        raise ValueError(f"train needs pairs, and the method 'dpo' or 'adadpo', not {method!r}")
    model.eval()  # without dropout
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    events = []
    for step, batch in zip(range(steps), batches(pairs, batch_size, seed), strict=False):
        ids, mask = (tensor.to(model.device) for tensor in make_batch(tokenizer, batch))
        chosen, rejected = completion_logps(model, ids, mask).chunk(2)
        ref_chosen, ref_rejected = completion_logps(reference, ids, mask).chunk(2)
        logps = (chosen, rejected, ref_chosen, ref_rejected)
        if method == "dpo":
            loss = dpo_loss(*logps, beta=beta)
        else:
            n_w, n_l = mask.sum(1).chunk(2)
            loss = adadpo_loss(*logps, chosen_lengths=n_w, rejected_lengths=n_l, beta=beta)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        moved = {"shift/chosen": chosen - ref_chosen, "shift/rejected": rejected - ref_rejected}
        means = {name: shift.mean().item() for name, shift in moved.items()}
        events.append({"step": step, "loss": loss.item(), **means})
    return events
