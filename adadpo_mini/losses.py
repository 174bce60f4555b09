"""The losses: DPO, AdaDPO, and the fixed ratio that is AdaDPO's control.

Their relatives are in `methods/`; `methods/registry.py` lists all of them.

Notation, for a prompt x with a chosen completion y_w and a rejected completion y_l:

    u_w = log π_θ(y_w|x) − log π_ref(y_w|x)        u_l = log π_θ(y_l|x) − log π_ref(y_l|x)

where log π(y|x) is summed over the completion's tokens, including its end token. Every loss in
this file has the form

    L = −log σ(β_w·u_w − β_l·u_l)

Only the two coefficients differ. This file needs torch and nothing else.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_LOG_RATIO = 80.0  # exp(80) still fits fp32


@dataclass(frozen=True)
class PreferenceLoss:
    """A preference loss with every intermediate value that a chart needs.

    All tensors but `loss` have shape (batch,); all but `loss` and `per_pair` are detached.

    Attributes:
        loss: scalar, the mean of `per_pair`; call `backward()` on it.
        per_pair: −log σ(β_w·u_w − β_l·u_l) for each pair.
        chosen_rewards: the implicit reward β·u_w, which every method reports alike.
        rejected_rewards: the implicit reward β·u_l.
        beta_chosen: β_w, the coefficient of the chosen side inside the sigmoid (for IPO, inside
            the square).
        beta_rejected: β_l, the coefficient of the rejected side.
        rho: the balance ratio ρ before floor and ceiling; 1 if the loss has none.
    """

    loss: Tensor
    per_pair: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    beta_chosen: Tensor
    beta_rejected: Tensor
    rho: Tensor


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> PreferenceLoss:
    """Direct preference optimisation.

        L = −log σ(β·u_w − β·u_l)

    Args:
        policy_chosen_logps: log π_θ(y_w|x), summed over the completion, nats, shape (batch,).
        policy_rejected_logps: log π_θ(y_l|x), the same.
        ref_chosen_logps: log π_ref(y_w|x), the same, without gradient.
        ref_rejected_logps: log π_ref(y_l|x), the same, without gradient.
        beta: β, how strongly the policy is tied to the reference.

    Raises:
        ValueError: shapes differ, or β is not positive.

    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7.

    >>> zero = torch.zeros(1)
    >>> round(dpo_loss(zero, zero, zero, zero).loss.item(), 4)  # log 2: nothing learned yet
    0.6931
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    u_w, u_l = log_ratios(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    per_pair = -F.logsigmoid(beta * u_w - beta * u_l)
    return with_rewards(per_pair, u_w, u_l, beta)


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
    space: str = "ratio",
    length_normalize: bool = True,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """Self-adaptive DPO: weight the chosen side so that both sides are pushed equally hard.

        ρ = exp(a_w/|y_w| − a_l/|y_l|)
        L = −log σ(β_w·u_w − β_l·u_l),   β_w = β·sg[min(k·ρ, C)],   β_l = β

    where a = u in ratio space, a = log π_θ in policy space, and sg[·] stops the gradient.

    Let x = exp(a/|y|), the geometric mean over a completion's tokens; then ρ = x_w/x_l. For
    completions of equal length, DPO pushes x_l down ρ times as hard as it pushes x_w up. The
    coefficient cancels this factor until it reaches the ceiling. For other completions a factor
    remains: |∂L/∂x_w| / |∂L/∂x_l| = |y_w|/|y_l|. The raw form, without |y|, balances x = exp(a)
    whatever the lengths.

    Args:
        policy_chosen_logps: log π_θ(y_w|x), summed over the completion, nats, shape (batch,).
        policy_rejected_logps: log π_θ(y_l|x), the same.
        ref_chosen_logps: log π_ref(y_w|x), the same, without gradient.
        ref_rejected_logps: log π_ref(y_l|x), the same, without gradient.
        chosen_lengths: |y_w| in tokens, end token included, shape (batch,).
        rejected_lengths: |y_l| in tokens, the same.
        beta: β, how strongly the policy is tied to the reference.
        ceiling: C, the largest β_w/β_l.
        space: "ratio" or "policy". In ratio space, the default, ρ starts at 1, so the first step
            is exactly DPO's.
        length_normalize: True for the stable form above, False for the raw form without |y|.
        k: aim for |∂L/∂x_w| = k·|∂L/∂x_l|, with x as above.
        floor: the smallest β_w/β_l. Not in the paper; with floor = ceiling = 1 this is DPO.

    Raises:
        ValueError: shapes differ, a length is not positive, or a knob is out of range.

    Source: arXiv:2605.28440. Its exact form has no ceiling and no |y|. The stable form, which is
    the default here, comes from a second-hand account of the paper's body.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> ahead = adadpo_loss(0.5 * one, zero, zero, zero, chosen_lengths=one, rejected_lengths=one)
    >>> round(ahead.rho.item(), 4), round(ahead.beta_chosen.item(), 4)  # e^0.5, and 0.1·e^0.5
    (1.6487, 0.1649)
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    check(space in ("ratio", "policy"), f"space must be 'ratio' or 'policy', not {space!r}")
    u_w, u_l = log_ratios(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    lengths_w, lengths_l = as_lengths(u_w, chosen_lengths, rejected_lengths)

    # AdaDPO is the lines from here on, and `adaptive_ratio` below.
    a_w, a_l = u_w, u_l
    if space == "policy":  # in u's type, fp32 at least: half precision would round a_w − a_l
        a_w, a_l = policy_chosen_logps.to(u_w), policy_rejected_logps.to(u_l)
    if length_normalize:
        a_w, a_l = a_w / lengths_w, a_l / lengths_l
    ratio, rho = adaptive_ratio(a_w - a_l, ceiling=ceiling, k=k, floor=floor)
    per_pair = -F.logsigmoid(beta * ratio * u_w - beta * u_l)
    return with_rewards(per_pair, u_w, u_l, beta, ratio, rho)


@torch.no_grad()  # ρ is a weight, not something to optimise: this is the sg[·]
def adaptive_ratio(
    log_rho: Tensor, *, ceiling: float = 2.0, k: float = 1.0, floor: float | None = None
) -> tuple[Tensor, Tensor]:
    """AdaDPO's coefficient β_w/β_l = sg[min(k·ρ, C)], and ρ itself, from log ρ of shape (batch,).

    Raises:
        ValueError: a knob is out of range.

    >>> ratio, rho = adaptive_ratio(torch.tensor([-0.5, 0.5, 5.0]))
    >>> ratio, rho
    (tensor([0.6065, 1.6487, 2.0000]), tensor([  0.6065,   1.6487, 148.4132]))
    """
    check(ceiling > 0, f"ceiling must be positive, not {ceiling}")
    check(k > 0, f"k must be positive, not {k}")
    check(floor is None or 0 < floor <= ceiling, f"floor must be in (0, ceiling], not {floor}")
    # Clamp before exp: without |y|, exp(log ρ) would overflow.
    log_floor = None if floor is None else math.log(floor)
    log_ratio = (log_rho + math.log(k)).clamp(min=log_floor, max=math.log(ceiling))
    return log_ratio.exp(), log_rho.clamp(max=LARGEST_LOG_RATIO).exp()


def fixed_ratio_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
    ratio: float = 2.0,
) -> PreferenceLoss:
    """AdaDPO's control: the chosen side weighs more, by one constant for every pair.

        L = −log σ(c·β·u_w − β·u_l)

    With c equal to AdaDPO's own mean ρ, both give the chosen side the same dose; if AdaDPO does
    better, adapting is the reason. A larger c is a larger dose, and shows nothing about adapting.
    It is DPO-Shift with f = 1/c and β' = c·β. The arguments are those of `dpo_loss`; `ratio` is c.

    Raises:
        ValueError: shapes differ, or β or c is not positive.

    Source: the idea is DPO-Shift's, arXiv:2502.07599.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> round(fixed_ratio_loss(one, one, zero, zero).loss.item(), 4)  # −log σ(0.2 − 0.1)
    0.6444
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    check(ratio > 0, f"ratio must be positive, not {ratio}")
    u_w, u_l = log_ratios(
        policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    per_pair = -F.logsigmoid(ratio * beta * u_w - beta * u_l)
    constant = torch.full_like(u_w, ratio)
    return with_rewards(per_pair, u_w, u_l, beta, constant, constant)


def with_rewards(
    per_pair: Tensor,
    u_w: Tensor,
    u_l: Tensor,
    beta: float,
    ratio: Tensor | None = None,
    rho: Tensor | None = None,
) -> PreferenceLoss:
    """Make a `PreferenceLoss` of these losses of the pairs; `ratio` and `rho` default to 1."""
    ratio = torch.ones_like(u_w) if ratio is None else ratio.detach()
    return PreferenceLoss(
        loss=per_pair.mean(),
        per_pair=per_pair,
        chosen_rewards=beta * u_w.detach(),
        rejected_rewards=beta * u_l.detach(),
        beta_chosen=beta * ratio,
        beta_rejected=torch.full_like(ratio, beta),
        rho=torch.ones_like(ratio) if rho is None else rho.detach(),
    )


def log_ratios(
    policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (u_w, u_l) in fp32 or better: half precision cannot tell 100.0 from 100.1 nats."""
    four = (policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    shapes = [tuple(t.shape) for t in four]
    check(
        len(set(shapes)) == 1 and len(shapes[0]) == 1 and shapes[0][0] > 0,
        f"the four log-probs must share one shape (batch,), not {shapes}",
    )
    at_least_fp32 = [t if t.dtype == torch.float64 else t.float() for t in four]
    policy_w, policy_l, ref_w, ref_l = at_least_fp32
    return policy_w - ref_w.detach(), policy_l - ref_l.detach()


def as_lengths(u: Tensor, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    """Check the completions' lengths and return them in the type of u."""
    for lengths in (chosen, rejected):
        check(
            lengths.shape == u.shape and bool((lengths > 0).all()),
            f"lengths must be positive and of shape {tuple(u.shape)}, not {lengths}",
        )
    return chosen.to(u), rejected.to(u)


def check(true: bool, otherwise: str) -> None:
    """Raise ValueError, with the sentence `otherwise`, unless `true`."""
    if not true:
        raise ValueError(otherwise)
