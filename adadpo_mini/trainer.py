"""One method, one step: batch → log-probs → loss → update → event."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.losses import PreferenceLoss
from adadpo_mini.methods import METHODS
from adadpo_mini.optimizer import MasterAdamW
from adadpo_mini.scoring import Logps, ScoredBatch
from adadpo_mini.state import TrainingState, restore_weights, trained_weights

Event = dict[str, float]
"""What is known about one training step: a flat dict of numbers. See `Trainer.step`."""
OnEvent = Callable[[str, Event], None]
"""What takes (method, event) as they happen."""
Emit = Callable[[Mapping[str, Event]], None]
"""What takes the events of one step, by method."""
COUNTERS = ("steps", "tokens", "seconds")


@dataclass(frozen=True)
class BatchLoss:
    """The loss on a batch, and what it was computed from; all tensors of shape (B,)."""

    loss: PreferenceLoss
    chosen_logps: Tensor
    rejected_logps: Tensor
    chosen_shift: Tensor  # log π_θ − log π_ref, nats per completion
    rejected_shift: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor

    @classmethod
    def join(cls, parts: Sequence["BatchLoss"]) -> "BatchLoss":
        """The parts of a batch as one; of the loss only its value is kept."""
        if len(parts) == 1:
            return parts[0]

        def cat(items: Sequence) -> dict[str, Tensor]:
            values = ((f.name, [getattr(item, f.name) for item in items]) for f in fields(items[0]))
            return {name: torch.cat(v) for name, v in values if name != "loss"}

        losses = [replace(part.loss, per_pair=part.loss.per_pair.detach()) for part in parts]
        joined = cat(losses)
        loss = PreferenceLoss(loss=joined["per_pair"].mean(), **joined)
        return cls(loss, **cat(parts))


class Trainer:
    """Trains one model with one method.

    Args:
        model: the policy; it is updated in place and starts equal to the reference.
        method: a key of `METHODS`.
        learning_rate: AdamW's, constant, without weight decay.
        knobs: β and such, by the names of the losses' parameters; those that this method's loss
            does not know are ignored.
        max_grad_norm: gradients are scaled down to this norm.
        logps: how completions are scored; the reference must be scored the same way.
        pairs_at_once: a larger batch is read in parts, and their gradients add up to the same.
        checkpointing: the model recomputes its activations; transformers does so in training mode
            only, in which it is then put for as long as a step takes.

    Attributes:
        loss: the method's loss with its knobs set, a function of the four log-probs and lengths.
    """

    def __init__(
        self,
        model,
        method: str,
        *,
        learning_rate: float,
        knobs: Mapping[str, object],
        max_grad_norm: float = 1.0,
        logps: Logps = completion_logps,
        pairs_at_once: int | None = None,
        checkpointing: bool = False,
    ) -> None:
        self.model = model
        self.method = method
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.loss = METHODS[method].bind(knobs)
        self._ceiling = METHODS[method].knobs(knobs).get("ceiling")
        self._logps = logps
        self._pairs_at_once = pairs_at_once
        self._checkpointing = checkpointing
        self._optimizer = MasterAdamW(model.parameters(), learning_rate)
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0

    def compute_loss(self, batch: ScoredBatch) -> BatchLoss:
        """Log-probs of chosen and rejected in one forward pass, and the method's loss."""
        rows = batch.rows
        logps = self._logps(self.model, rows.input_ids, rows.completion_mask)
        chosen_logps, rejected_logps = logps.chunk(2)
        chosen_lengths, rejected_lengths = rows.lengths.chunk(2)
        loss = self.loss(
            chosen_logps,
            rejected_logps,
            batch.ref_chosen_logps,
            batch.ref_rejected_logps,
            chosen_lengths=chosen_lengths,
            rejected_lengths=rejected_lengths,
        )
        return BatchLoss(
            loss,
            chosen_logps.detach(),
            rejected_logps.detach(),
            chosen_logps.detach() - batch.ref_chosen_logps,
            rejected_logps.detach() - batch.ref_rejected_logps,
            chosen_lengths,
            rejected_lengths,
        )

    def _measure(self, batch: ScoredBatch, *, backward: bool = False) -> BatchLoss:
        """`compute_loss`, part by part; the loss is a mean over pairs, so parts add up."""
        results = []
        for part in batch.parts(self._pairs_at_once):
            result = self.compute_loss(part)
            if backward:
                (result.loss.loss * (len(part) / len(batch))).backward()
            results.append(result)
        return BatchLoss.join(results)

    @contextmanager
    def _recomputing(self) -> Iterator[None]:
        if self._checkpointing:
            self.model.train()
        try:
            yield
        finally:
            if self._checkpointing:
                self.model.eval()  # in training mode it would answer without its cache

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure the model on a batch it has not been trained on yet, then train on the batch.

        The event describes the model as it was before this update. So the event of step 0 is
        about the untrained model, that of step t about the model after t updates, and with
        `update=False` the model stays as it is.

        Returns:
            step: updates done so far. num_tokens: tokens in those updates' batches.
            loss, logps/…, rewards/…: see `describe`. grad_norm: before clipping. learning_rate.

        Raises:
            FloatingPointError: the loss or its gradient is not a finite number; the model was not
                updated.
        """
        began = time.perf_counter()
        with self._recomputing():
            result = self._measure(batch, backward=True)
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        check_finite(self, result.loss.loss.item(), "the loss")
        check_finite(self, grad_norm.item(), "the norm of the gradient")
        event = {
            "step": self.steps,
            "learning_rate": self.learning_rate,
            "grad_norm": grad_norm.item(),
            "num_tokens": self.tokens,
            **describe(result, self._ceiling),
        }
        if update:
            self._optimizer.step()
            self.steps += 1
            self.tokens += batch.rows.num_tokens
        self._optimizer.zero_grad()
        self.seconds += time.perf_counter() - began
        return event

    @torch.no_grad()
    def evaluate(self, batch: ScoredBatch) -> Event:
        """The same measurements on a held-out batch, each name with the prefix `eval_`."""
        began = time.perf_counter()
        measured = describe(self._measure(batch), self._ceiling)
        self.seconds += time.perf_counter() - began
        return {f"eval_{name}": value for name, value in measured.items()}

    def state(self) -> TrainingState:
        """What `restore` needs to go on from here; it shares its memory with the model."""
        tensors = {**trained_weights(self.model), **self._optimizer.state()}
        return TrainingState(tensors, counters(self))

    def restore(self, state: TrainingState) -> None:
        """Go on where a trainer of the same model and method was.

        Raises:
            InputError: the state is that of another model.
        """
        restore_weights(self.model, state.tensors)
        self._optimizer.restore(state.tensors)
        restore_counters(self, state)


def counters(trainer) -> dict[str, float]:
    """Updates done, tokens in their batches, and seconds computed."""
    return {name: getattr(trainer, name) for name in COUNTERS}


def restore_counters(trainer, state: TrainingState) -> None:
    """Set what `counters` gave."""
    for name in COUNTERS:
        setattr(trainer, name, state.numbers[name])


def check_finite(trainer, value: float, what: str) -> None:
    """Raise FloatingPointError if a trainer has come to a value that is no finite number."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"{trainer.method}: {what} is {value} after {trainer.steps} steps; "
            "training has diverged, lower the learning rate."
        )


def describe(result: BatchLoss, ceiling: float | None = None) -> Event:
    """What a batch's loss says, averaged over its pairs.

    Returns:
        loss: nats.
        logps/chosen, logps/rejected: log π_θ summed over the completion, nats.
        rewards/chosen, rewards/rejected: the raw implicit rewards β·u.
        rewards/margins: their difference. rewards/accuracies: share of pairs with u_w > u_l.
        shift/chosen, shift/rejected: u, the change against the reference, nats per completion.
        ada/rho: β_w/β_l as used, after floor and ceiling. ada/ceiling_share: share of pairs for
            which it is the ceiling.
        balance/ratio: |∂L/∂x_w| / |∂L/∂x_l| for per-token x = exp(u/|y|), the geometric mean over
            pairs of (β_w/β_l)·(x_l/x_w). Below 1 the rejected is pushed harder. As in AdaDPO's own
            ρ, the factor |y_w|/|y_l| that unequal lengths would add is left out.
    """
    loss = result.loss
    ratio = loss.beta_chosen / loss.beta_rejected
    log_x_w = result.chosen_shift / result.chosen_lengths
    log_x_l = result.rejected_shift / result.rejected_lengths
    at_ceiling = ratio > (ceiling or math.inf) * (1 - 1e-6)
    values = {
        "loss": loss.loss,
        "logps/chosen": result.chosen_logps,
        "logps/rejected": result.rejected_logps,
        "rewards/chosen": loss.chosen_rewards,
        "rewards/rejected": loss.rejected_rewards,
        "rewards/accuracies": (result.chosen_shift > result.rejected_shift).float(),
        "rewards/margins": loss.chosen_rewards - loss.rejected_rewards,
        "shift/chosen": result.chosen_shift,
        "shift/rejected": result.rejected_shift,
        "ada/rho": ratio,
        "ada/ceiling_share": at_ceiling.float(),
        "balance/ratio": (ratio.log() + log_x_l - log_x_w).mean().exp(),
    }
    means = torch.stack([value.mean().float() for value in values.values()]).tolist()
    return dict(zip(values, means, strict=True))
