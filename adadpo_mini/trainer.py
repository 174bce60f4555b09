"""One method, one step: batch → log-probs → loss → update → event."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch

from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.batch import BatchLoss, batch_loss, describe, measure_batch
from adadpo_mini.methods import METHODS, BoundLoss
from adadpo_mini.models.optimizer import MasterAdamW
from adadpo_mini.models.reference import Logps, ScoredBatch
from adadpo_mini.models.state import TrainingState, restore_weights, trained_weights

COUNTERS = ("steps", "tokens", "seconds")


class MethodTrainer(Protocol):
    """What a race asks of whatever trains a method.

    Attributes:
        model: the policy.
        loss: the loss that pairs are measured with.
        seconds: time spent in `prepare`, `step` and `evaluate`.
    """

    model: object
    loss: BoundLoss
    seconds: float

    def prepare(self, batches: Iterable[ScoredBatch]) -> None:
        """What comes before the first step, on the batches that will be trained on."""

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure, then train; see `Trainer.step`."""

    def evaluate(self, batch: ScoredBatch) -> Event:
        """Measure a held-out batch; see `Trainer.evaluate`."""

    def state(self) -> TrainingState:
        """What `restore` needs."""

    def restore(self, state: TrainingState) -> None:
        """Go on where another trainer was."""


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

    def prepare(self, batches: Iterable[ScoredBatch]) -> None:
        """Nothing: a loss on pairs has one stage."""

    def compute_loss(self, batch: ScoredBatch) -> BatchLoss:
        """Log-probs of chosen and rejected in one forward pass, and the method's loss."""
        return batch_loss(self.model, self.loss, batch, logps=self._logps)

    def _backward(self, batch: ScoredBatch) -> BatchLoss:
        """`compute_loss` and its gradient, part by part; the loss is a mean, so parts add up."""
        results = []
        for part in batch.parts(self._pairs_at_once):
            result = self.compute_loss(part)
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
        """The same measurements on a held-out batch, each name with the prefix `eval_`."""
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
