"""AdamW with fp32 weights and moments, for models of any dtype."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from adadpo_mini.models.state import adamw_state, copy_into, restore_adamw


class MasterAdamW:
    """AdamW without weight decay, with an fp32 copy of every weight that is not fp32.

    A bf16 weight has 8 significant bits. An update smaller than 1/256 of the weight is lost, and at
    the learning rates of preference optimisation nearly all are. The updates are therefore summed
    in fp32, and the model gets the rounded sum. fp32 weights are not copied.

    Args:
        parameters: the weights. Those that do not require a gradient are ignored.
        learning_rate: constant.

    Source: Micikevicius et al. 2017, "Mixed precision training", arXiv:1710.03740, section 3.1.

    >>> weight = torch.nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    >>> optimizer = MasterAdamW([weight], learning_rate=1e-3)
    >>> for _ in range(4):  # bf16 would round each step to nothing
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
        # Fused: a single pass over the memory, which dominates the time of a large model's step.
        self._adamw = torch.optim.AdamW(
            self._masters, lr=learning_rate, weight_decay=0.0, fused=True
        )

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights with their gradients."""
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is not weight and weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None  # one at a time: less memory
        self._adamw.step()
        for weight, master in zip(self._weights, self._masters, strict=True):
            if master is not weight:
                weight.copy_(master)
                master.grad = None

    def zero_grad(self) -> None:
        """Drop the gradients of all weights."""
        for weight in self._weights:
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that `restore` needs: the moments and the fp32 copies of weights."""
        masters = {
            f"masters/{i}": master.detach()
            for i, (weight, master) in enumerate(zip(self._weights, self._masters, strict=True))
            if master is not weight
        }
        return {**adamw_state(self._adamw), **masters}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the tensors that `state` returned.

        Raises:
            InputError: the tensors belong to other weights.
        """
        restore_adamw(self._adamw, tensors)
        for i, (weight, master) in enumerate(zip(self._weights, self._masters, strict=True)):
            if master is not weight:
                copy_into(master, tensors, f"masters/{i}")
