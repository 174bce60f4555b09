"""One method, one step: batch → log-probs → loss → update → event."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.batch import BatchLoss, batch_loss, describe, measure_batch
from adadpo_mini.methods import METHODS, BoundLoss
from adadpo_mini.models.optimizer import MasterAdamW
from adadpo_mini.models.reference import Logps, ScoredBatch
from adadpo_mini.models.state import TrainingState, restore_weights, trained_weights
from adadpo_mini.types import Model

COUNTERS = ("steps", "tokens", "seconds")
TINY = 1e-12


class MethodTrainer(Protocol):
    """What a race needs from the trainer of a method.

    Attributes:
        model: the policy.
        loss: the loss that pairs are measured with.
        method: the name of the method.
        steps: updates done so far.
        seconds: time spent in `prepare`, `step` and `evaluate`.
    """

    method: str
    steps: int
    model: Model
    loss: BoundLoss
    seconds: float

    def prepare(self, batches: Iterable[ScoredBatch]) -> None:
        """Do what comes before the first step, with the batches of the whole race."""

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure, then train; see `Trainer.step`."""

    def evaluate(self, batch: ScoredBatch) -> Event:
        """Measure a held-out batch; see `Trainer.evaluate`."""

    def state(self) -> TrainingState:
        """Return what `restore` needs."""

    def restore(self, state: TrainingState) -> None:
        """Continue from the state of another trainer."""


class Trainer:
    """Trains one model with one method.

    Args:
        model: the policy. It starts equal to the reference and is updated in place.
        method: a key of `METHODS`.
        learning_rate: constant, for AdamW without weight decay.
        knobs: β and the like, named as the parameters of the losses. A method ignores those that
            its loss does not have.
        max_grad_norm: gradients are scaled down to this norm.
        logps: how completions are scored; the reference must be scored the same way.
        pairs_at_once: a larger batch is split into parts, and their gradients add up.
        checkpointing: the model recomputes its activations. transformers does this in training mode
            only, so the model is in that mode during a step.

    Attributes:
        loss: the method's loss with its knobs set, a function of the four log-probs and lengths.
    """

    def __init__(
        self,
        model: Model,
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

    def prepare(self, batches: Iterable[ScoredBatch]) -> None:
        """Do nothing: a loss on pairs has only one stage."""

    def compute_loss(self, batch: ScoredBatch, loss: BoundLoss | None = None) -> BatchLoss:
        """Return a loss of a batch, by default the method's, and the log-probs it came from."""
        return batch_loss(self.model, loss or self.loss, batch, logps=self._logps)

    def _backward(self, batch: ScoredBatch, loss: BoundLoss | None = None) -> BatchLoss:
        """Compute a loss, by default the method's, and its gradient.

        This is done part by part; the loss is a mean over pairs, so the parts add up.
        """
        results = []
        for part in batch.parts(self._pairs_at_once):
            result = self.compute_loss(part, loss)
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
                self.model.eval()  # in training mode it would generate without its cache

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure the model on a batch, then train on that batch.

        The event describes the model before this update: event 0 describes the untrained model,
        event t the model after t updates. With `update=False` the model stays as it is.

        Returns:
            step: updates done so far. num_tokens: tokens in those updates' batches.
            loss, logps/…, rewards/…: see `describe`. grad_norm: before clipping. learning_rate.

        Raises:
            FloatingPointError: the loss or its gradient is not finite; the model was not updated.
        """
        began = time.perf_counter()
        with self._recomputing():
            result = self._backward(batch)
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

    def evaluate(self, batch: ScoredBatch) -> Event:
        """Return the same measurements on a held-out batch; each name gets the prefix `eval_`."""
        began = time.perf_counter()
        measured = measure_batch(
            self.model,
            self.loss,
            batch,
            ceiling=self._ceiling,
            logps=self._logps,
            pairs_at_once=self._pairs_at_once,
        )
        self.seconds += time.perf_counter() - began
        return {f"eval_{name}": value for name, value in measured.items()}

    def state(self) -> TrainingState:
        """Return what `restore` needs to continue; the tensors share memory with the model."""
        tensors = {**trained_weights(self.model), **self._optimizer.state()}
        return TrainingState(tensors, counters(self))

    def restore(self, state: TrainingState) -> None:
        """Continue from the state of a trainer of the same model and method.

        Raises:
            InputError: the state belongs to another model.
        """
        restore_weights(self.model, state.tensors)
        self._optimizer.restore(state.tensors)
        restore_counters(self, state)


class MatchedNormTrainer(Trainer):
    """Trains with gradients that are as large as AdaDPO's: a control for the size of its gradient.

    Before each update, the gradient is scaled to the norm that AdaDPO's gradient has on the same
    batch and the same weights. AdamW divides a gradient by its own recent size, so what is left of
    the scaling is how the size changes from step to step, and what the clipping cuts off.

    Args:
        model, method, knobs, rest: see `Trainer`; AdaDPO gets the same knobs.
    """

    def __init__(
        self, model: Model, method: str, *, knobs: Mapping[str, object], **rest: Any
    ) -> None:
        super().__init__(model, method, knobs=knobs, **rest)
        self._adadpo_loss = METHODS["adadpo"].bind(knobs)

    def _backward(self, batch: ScoredBatch, loss: BoundLoss | None = None) -> BatchLoss:
        """Compute the loss and its gradient, scaled to the norm of AdaDPO's."""
        super()._backward(batch, self._adadpo_loss)
        wanted = self._grad_norm()
        self._optimizer.zero_grad()
        result = super()._backward(batch, loss)
        scale = wanted / self._grad_norm().clamp_min(TINY)
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad.mul_(scale)
        return result

    def _grad_norm(self) -> Tensor:
        gradients = [w.grad for w in self.model.parameters() if w.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)


def counters(trainer: object) -> dict[str, float]:
    """Return the updates done, the tokens in their batches, and the seconds computed."""
    return {name: getattr(trainer, name) for name in COUNTERS}


def restore_counters(trainer: object, state: TrainingState) -> None:
    """Set the counters to those that `counters` returned."""
    for name in COUNTERS:
        setattr(trainer, name, state.numbers[name])


def check_finite(trainer: MethodTrainer, value: float, what: str) -> None:
    """Raise FloatingPointError if a value that a trainer has computed is not finite."""
    if not math.isfinite(value):
        raise FloatingPointError(
            f"{trainer.method}: {what} is {value} after {trainer.steps} steps; "
            "training has diverged, lower the learning rate."
        )
