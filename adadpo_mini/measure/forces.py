"""How hard a loss pushes on the two sides of a pair, by autograd: right for every loss."""

import math

import torch
from torch import Tensor

from adadpo_mini.methods import BoundLoss

EXTREME = math.log(1e6)  # a side that is not pushed counts as pushed 10^6 times less
Sides = tuple[Tensor, Tensor]
"""A number of the chosen and of the rejected side, each of shape (batch,)."""


def forces(
    loss: BoundLoss,
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
) -> Sides:
    """Return (−∂L/∂log π_w, ∂L/∂log π_l) of each pair: how hard the loss pushes its two sides.

    Coefficients under a stop-gradient count as constants, and imitation counts. Both are positive
    if the loss raises the chosen and lowers the rejected.

    Args:
        loss: `METHODS[name].bind(knobs)`; the other arguments are its own, of shape (batch,).

    Returns:
        In fp64 and on the CPU. In fp32 the forces on a pair with a large margin would be 0.

    >>> from adadpo_mini.methods.registry import METHODS
    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> forces(METHODS["cpo"].bind({"beta": 0.1}), -one, -one, zero, zero, **lengths)  # β/2 + 1
    (tensor([1.0500], dtype=torch.float64), tensor([0.0500], dtype=torch.float64))
    """
    logps = (chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    chosen, rejected, *references = (t.detach().to("cpu", torch.float64) for t in logps)
    sides = (chosen.requires_grad_(), rejected.requires_grad_())
    lengths = {"chosen_lengths": chosen_lengths.cpu(), "rejected_lengths": rejected_lengths.cpu()}
    with torch.enable_grad():
        total = loss(*sides, *references, **lengths).per_pair.sum()
        up, down = torch.autograd.grad(total, sides, materialize_grads=True)
    return -up, down


def balance(pushes: Sides, lengths: Sides, shifts: Sides) -> float:
    """Return how hard a loss pushes the chosen compared with the rejected, per token.

        |∂L/∂x_w| / |∂L/∂x_l|,   x = exp(u/|y|),   so that ∂L/∂x = (∂L/∂log π)·|y|/x

    It is the geometric mean over the pairs on which the loss pushes at all, and 1 if there are
    none. Below 1 the rejected is pushed harder. AdaDPO's coefficient cancels x_w/x_l alone. What is
    left, below its ceiling, is |y_w|/|y_l|: it is balanced only if both answers are equally long.

    Args:
        pushes: as `forces` returns. lengths: |y|, in tokens. shifts: u, nats per completion.

    >>> one, two = torch.ones(1), 2 * torch.ones(1)
    >>> balance((one, one), (two, one), (0 * one, 0 * one))  # DPO's first step, |y_w| = 2·|y_l|
    2.0...
    """
    pushed = (pushes[0] != 0) | (pushes[1] != 0)
    if not pushed.any():
        return 1.0
    log_w, log_l = (
        push.abs().log() + length.double().log() - shift.double() / length
        for push, length, shift in zip(pushes, _cpu(lengths), _cpu(shifts), strict=True)
    )
    ratios = (log_w - log_l)[pushed].nan_to_num(posinf=EXTREME, neginf=-EXTREME)
    return ratios.mean().exp().item()


def _cpu(sides: Sides) -> Sides:
    return sides[0].cpu(), sides[1].cpu()
