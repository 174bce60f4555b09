"""A batch of pairs under a model and a loss: the log-probs, the loss, and the numbers of an event.

Nothing here trains. `Trainer`, RLHF and the slow measurements use these functions to measure their
policies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.losses import PreferenceLoss
from adadpo_mini.measure.forces import balance, forces
from adadpo_mini.methods import BoundLoss
from adadpo_mini.models.reference import Logps, ScoredBatch
from adadpo_mini.types import Model


@dataclass(frozen=True)
class BatchLoss:
    """The loss on a batch, its inputs, and how hard it pushes. All tensors have shape (B,)."""

    loss: PreferenceLoss
    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_shift: Tensor  # log π_θ − log π_ref, nats per completion
    rejected_shift: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    chosen_force: Tensor  # −∂L/∂log π_θ(y_w|x); see `forces`
    rejected_force: Tensor  # ∂L/∂log π_θ(y_l|x)

    @classmethod
    def of(
        cls,
        loss: BoundLoss,
        chosen_logps: Tensor,
        rejected_logps: Tensor,
        ref_chosen_logps: Tensor,
        ref_rejected_logps: Tensor,
        **lengths: Tensor,
    ) -> "BatchLoss":
        """Compute a loss from its arguments. Only `loss` keeps the gradient."""
        logps = (chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
        return cls(
            loss(*logps, **lengths),
            chosen_logps.detach(),
            rejected_logps.detach(),
            chosen_logps.detach() - ref_chosen_logps,
            rejected_logps.detach() - ref_rejected_logps,
            lengths["chosen_lengths"],
            lengths["rejected_lengths"],
            *forces(loss, *logps, **lengths),
        )

    @classmethod
    def join(cls, parts: Sequence["BatchLoss"]) -> "BatchLoss":
        """Join the parts of a batch. The result keeps the value of the loss but no gradient."""
        if len(parts) == 1:
            return parts[0]

        def cat(items: Sequence) -> dict[str, Tensor]:
            values = ((f.name, [getattr(item, f.name) for item in items]) for f in fields(items[0]))
            return {name: torch.cat(v) for name, v in values if name != "loss"}

        losses = [replace(part.loss, per_pair=part.loss.per_pair.detach()) for part in parts]
        joined = cat(losses)
        loss = PreferenceLoss(loss=joined["per_pair"].mean(), **joined)
        return cls(loss, **cat(parts))


def batch_loss(
    model: Model, loss: BoundLoss, batch: ScoredBatch, *, logps: Logps = completion_logps
) -> BatchLoss:
    """Score chosen and rejected in one forward pass, and compute the loss.

    Args:
        loss: `METHODS[name].bind(knobs)`, or a trainer's `loss`.
        logps: the function that scores completions.
    """
    rows = batch.rows
    chosen_logps, rejected_logps = logps(model, rows.input_ids, rows.completion_mask).chunk(2)
    chosen_lengths, rejected_lengths = rows.lengths.chunk(2)
    return BatchLoss.of(
        loss,
        chosen_logps,
        rejected_logps,
        batch.ref_chosen_logps,
        batch.ref_rejected_logps,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
    )


@torch.no_grad()
def measure_batch(
    model: Model,
    loss: BoundLoss,
    batch: ScoredBatch,
    *,
    ceiling: float | None = None,
    logps: Logps = completion_logps,
    pairs_at_once: int | None = None,
) -> Event:
    """Return `describe` of a batch without training; `ceiling` is that of the loss, if any."""
    parts = [batch_loss(model, loss, part, logps=logps) for part in batch.parts(pairs_at_once)]
    return describe(BatchLoss.join(parts), ceiling)


def describe(result: BatchLoss, ceiling: float | None = None) -> Event:
    """Return the numbers of an event, averaged over the pairs of a batch.

    Returns:
        loss: nats.
        logps/chosen, logps/rejected: log π_θ summed over the completion, nats.
        rewards/chosen, rewards/rejected: the raw implicit rewards β·u.
        rewards/margins: their difference. rewards/accuracies: share of pairs with u_w > u_l.
        ranking_accuracy: share of pairs with log π_θ(y_w|x) > log π_θ(y_l|x), without a reference.
        shift/chosen, shift/rejected: u, the change against the reference, nats per completion.
        ada/rho: β_w/β_l as used, after floor and ceiling. ada/ceiling_share: share of pairs for
            which it equals the ceiling.
        balance/ratio: |∂L/∂x_w| / |∂L/∂x_l| for per-token x = exp(u/|y|), by autograd, the
            geometric mean over pairs; see `forces.balance`. Below 1 the rejected is pushed harder.
            Below AdaDPO's ceiling it is |y_w|/|y_l|, which is 1 only for answers of equal length.
    """
    loss = result.loss
    ratio = loss.beta_chosen / loss.beta_rejected
    at_ceiling = ratio > (ceiling or math.inf) * (1 - 1e-6)
    values = {
        "loss": loss.loss,
        "logps/chosen": result.chosen_logps,
        "logps/rejected": result.rejected_logps,
        "rewards/chosen": loss.chosen_rewards,
        "rewards/rejected": loss.rejected_rewards,
        "rewards/accuracies": (result.chosen_shift > result.rejected_shift).float(),
        "rewards/margins": loss.chosen_rewards - loss.rejected_rewards,
        "ranking_accuracy": (result.chosen_logps > result.rejected_logps).float(),
        "shift/chosen": result.chosen_shift,
        "shift/rejected": result.rejected_shift,
        "ada/rho": ratio,
        "ada/ceiling_share": at_ceiling.float(),
    }
    means = torch.stack([value.mean().float() for value in values.values()]).tolist()
    balanced = balance(
        (result.chosen_force, result.rejected_force),
        (result.chosen_lengths, result.rejected_lengths),
        (result.chosen_shift, result.rejected_shift),
    )
    return {**dict(zip(values, means, strict=True)), "balance/ratio": balanced}
