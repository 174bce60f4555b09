"""AdaDPO's controls: each changes one thing about it, to show what that thing does.

Its first control, the fixed ratio, is in `losses.py`. Notation and `PreferenceLoss` are described
there; `*logps` are the four log-probs that `dpo_loss` takes, in the same order.
"""

import torch  # noqa: F401 (the examples need it)
import torch.nn.functional as F
from torch import Tensor

from adadpo_mini.losses import (
    PreferenceLoss,
    adadpo_loss,
    check,
    dpo_loss,
    log_ratios,
    with_rewards,
)
from adadpo_mini.methods.method import RHO_X, Method


def adadpo_batch_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    ceiling: float = 2.0,
    space: str = "ratio",
    length_normalize: bool = True,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """AdaDPO with one coefficient for all pairs of a batch: the mean of their own.

        r_i = sg[min(k·ρ_i, C)]                       of each pair i, as in `adadpo_loss`
        L   = −log σ(β·r·u_w − β·u_l),   r = mean of r_i over the batch

    The chosen side weighs as much as under AdaDPO, and its weight follows training as AdaDPO's
    does, but it no longer differs from pair to pair. If AdaDPO does better than this, adapting to
    each pair is the reason.

    >>> logps = [torch.tensor([0.0, 0.5]), *[torch.zeros(2)] * 3]
    >>> lengths = {"chosen_lengths": torch.ones(2), "rejected_lengths": torch.ones(2)}
    >>> adadpo_batch_loss(*logps, **lengths, beta=1.0).beta_chosen  # (1 + e^0.5)/2
    tensor([1.3244, 1.3244])
    """
    own = adadpo_loss(
        *logps,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
        beta=beta,
        ceiling=ceiling,
        space=space,
        length_normalize=length_normalize,
        k=k,
        floor=floor,
    )
    ratio = (own.beta_chosen / own.beta_rejected).mean().expand_as(own.rho)
    u_w, u_l = log_ratios(*logps)
    per_pair = -F.logsigmoid(beta * ratio * u_w - beta * u_l)
    return with_rewards(per_pair, u_w, u_l, beta, ratio, own.rho)


def weighted_dpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    ceiling: float = 2.0,
) -> PreferenceLoss:
    """Not AdaDPO but a wrong reading of it: the ratio weights the WHOLE loss.

        L = sg[min(ρ, C)]·(−log σ(β·u_w − β·u_l))

    Both sides get the same factor, so their balance does not change. This is a negative control;
    public code makes this mistake.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> wrong = weighted_dpo_loss(one, zero, zero, zero, **lengths)
    >>> wrong.rho, wrong.beta_chosen / wrong.beta_rejected
    (tensor([2.7183]), tensor([1.]))
    """
    adapted = adadpo_loss(
        *logps, chosen_lengths=chosen_lengths, rejected_lengths=rejected_lengths, ceiling=ceiling
    )
    weight = adapted.beta_chosen / adapted.beta_rejected
    u_w, u_l = log_ratios(*logps)
    check(beta > 0, f"beta must be positive, not {beta}")
    per_pair = -weight * F.logsigmoid(beta * u_w - beta * u_l)
    return with_rewards(per_pair, u_w, u_l, beta, rho=adapted.rho)


METHODS = {
    "adadpo_batch": Method(
        "AdaDPO, one ρ per batch",
        adadpo_batch_loss,
        f"−log σ(β·r̄·u_w − β·u_l), r̄ = mean of r over the batch, {RHO_X}",
        "AdaDPO's control: the same dose, equal for all pairs",
        couples_pairs=True,
        colour="#56B4C9",
    ),
    "dpo_matched_norm": Method(
        "DPO with AdaDPO's gradient norm",
        dpo_loss,
        "−g·log σ(β·u_w − β·u_l), g = ‖∇L of AdaDPO‖/‖∇L of DPO‖ on the batch",
        "AdaDPO's control: DPO's direction, AdaDPO's size of gradient",
        trained_by="matched_norm",
        colour="#B07AA1",
    ),
    "weighted_dpo": Method(
        "weighted DPO (wrong)",
        weighted_dpo_loss,
        f"−r·log σ(β·u_w − β·u_l), {RHO_X}",
        "AdaDPO's negative control: a wrong reading",
        colour="#8C8C8C",
    ),
}
