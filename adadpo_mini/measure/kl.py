"""How far the policy has moved from the reference: KL(π_θ‖π_ref)."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from adadpo_mini.measure.mass import LONGEST_ANSWER
from adadpo_mini.models.generate import sample_ids
from adadpo_mini.tokens.batch import stack_rows
from adadpo_mini.types import Model

NUMBERS_AT_ONCE = 1 << 25  # logits compared in one forward pass


def enumerated_kl(policy_logps: Tensor, ref_logps: Tensor) -> float:
    """Return KL(π_θ‖π_ref) over listed answers, with all other answers lumped into one.

        Σ_y π_θ(y)·log(π_θ(y)/π_ref(y)) + e_θ·log(e_θ/e_ref),   e = 1 − Σ_y π(y)

    This is a lower bound on the true KL, because lumping hides changes within the rest. The bound
    is tight when the rest has little mass.

    Args:
        policy_logps: log π_θ(y|x) of all listed answers, nats, shape (answers,).
        ref_logps: log π_ref(y|x) of the same.

    >>> half = torch.tensor([0.5, 0.5]).log()
    >>> round(enumerated_kl(torch.tensor([0.9, 0.1]).log(), half), 4)  # 0.9·log 1.8 + 0.1·log 0.2
    0.3681
    """
    policy_logps, ref_logps = policy_logps.double(), ref_logps.double()
    listed = (policy_logps.exp() * (policy_logps - ref_logps)).sum()
    rest, ref_rest = (
        (1 - logps.exp().sum()).clamp(min=1e-12) for logps in (policy_logps, ref_logps)
    )
    return (listed + rest * (rest / ref_rest).log()).item()


@dataclass(frozen=True)
class SampledKL:
    """KL to the reference, estimated from answers sampled from the policy.

    Attributes:
        kl: mean over answers of Σ_t KL(π_θ(·|y_<t)‖π_ref(·|y_<t)), nats per completion. Its
            expectation is KL(π_θ‖π_ref), with less variance than the mean of
            log π_θ(y) − log π_ref(y).
        standard_error: the standard error of that mean.
        length: mean length of the answers in tokens, including the end token if there is one.
    """

    kl: float
    standard_error: float
    length: float


@torch.no_grad()
def sampled_kl(
    model: Model,
    reference: Model,
    prompts: Sequence[Sequence[int]],
    end: int,
    *,
    seed: int = 0,
    max_new_tokens: int = LONGEST_ANSWER,
) -> SampledKL:
    """Estimate KL(π_θ‖π_ref) from one answer per prompt, sampled at temperature 1.

    Args:
        prompts: token ids.
        end: the end token.
        max_new_tokens: longer answers are cut off here, and only this part counts.
    """
    sampling = {"temperature": 1.0, "seed": seed, "max_new_tokens": max_new_tokens}
    answers = sample_ids(model, prompts, end, **sampling)
    rows = list(zip(map(list, prompts), answers, strict=True))
    words = model.config.get_text_config().vocab_size
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    at_once = max(1, NUMBERS_AT_ONCE // (words * longest))
    parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    kl = torch.cat([_kl_of(model, reference, part) for part in parts])
    spread = kl.std().item() if len(kl) > 1 else float("nan")
    length = fmean(len(answer) for answer in answers)
    return SampledKL(kl.mean().item(), spread / len(kl) ** 0.5, length)


def _kl_of(model: Model, reference: Model, rows: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Return Σ_t KL(π_θ(·|y_<t)‖π_ref(·|y_<t)) of each answer, shape (rows,)."""
    input_ids, mask = (t.to(model.device) for t in stack_rows(rows))
    log_policy, log_reference = (
        one(input_ids=input_ids, use_cache=False).logits[:, :-1].float().log_softmax(-1)
        for one in (model, reference)
    )
    step_kl = (log_policy.exp() * (log_policy - log_reference)).sum(-1)
    return (step_kl * mask[:, 1:]).sum(1).cpu()
