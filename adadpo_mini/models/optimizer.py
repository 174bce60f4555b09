"""AdamW with fp32 weights and moments, whatever the model computes in."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from adadpo_mini.models.state import adamw_state, copy_into, restore_adamw


class MasterAdamW:
    """AdamW without weight decay that keeps an fp32 copy of every weight that is not fp32.

    A bf16 weight has 8 significant bits: an update smaller than 1/256 of it is lost, and at the
    learning rates of preference optimisation nearly all are. So the updates are added up in fp32
    and the model gets the sum, rounded. Of fp32 weights no copy is made.

    Args:
        parameters: those that do not require a gradient are left out.
        learning_rate: constant.

    Source: Micikevicius et al. 2017, "Mixed precision training", arXiv:1710.03740, section 3.1.

    >>> weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    >>> optimizer = MasterAdamW([weight], learning_rate=1e-3)
    >>> for _ in range(4):  # each step alone would round to nothing
    ...     weight.grad = torch.ones_like(weight)
    ...     optimizer.step()
    >>> weight.item()
    0.99609375
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], learning_rate: float) -> None:
        self._weights = [p for p in parameters if p.requires_grad]
        self._masters = [
            p if p.dtype == torch.float32 else p.detach().float().requires_grad_()
            for p in self._weights
        ]
        # Fused: one pass over the memory, which for a large model is most of what a step costs.
        self._adamw = torch.optim.AdamW(
            self._masters, lr=learning_rate, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights by their gradients."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is not weight and weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None  # never all of both
        self._adamw.step()
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is not weight:
                weight.copy_(master)
                master.grad = None

    def zero_grad(self) -> None:
        for weight in self._weights:
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs to go on: moments, and the fp32 copies of weights."""
        masters = {
            f"masters/{i}": master.detach()
            for i, (weight, master) in enumerate(zip(self._weights, self._masters, strict=True))
            if master is not weight
        }
        return {**adamw_state(self._adamw), **masters}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state of an optimizer of the same weights.

        Raises:
            InputError: it is that of other weights.
        """
        restore_adamw(self._adamw, tensors)
        for i, (weight, master) in enumerate(zip(self._weights, self._masters, strict=True)):
            if master is not weight:
                copy_into(master, tensors, f"masters/{i}")
