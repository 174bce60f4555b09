"""Converting TRL's logs to our events."""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback
from transformers import TrainerControl as Control
from transformers import TrainerState as State
from transformers import TrainingArguments as Arguments

from adadpo_mini.config import RaceConfig
from adadpo_mini.event import Emit, Event
from adadpo_mini.trainer import check_finite
from adadpo_mini.types import Model

Measure = Callable[[], Event]
TIMINGS = ("_runtime", "_per_second", "_num_tokens", "_time")


class EventLog(TrainerCallback):
    """Converts TRL's logs to our events, and makes TRL evaluate at the same steps as a race.

    TRL logs a batch after its update, so the batch that our events call step 0 has TRL's step 1.
    Its evaluation at step s, however, measures the model after s updates. Event s therefore joins
    TRL's training log s + 1 and its evaluation s; both are about the model after s updates. The
    last event of a race has no update; TRL makes one with learning rate 0, which changes nothing.

    Args:
        config: the number of steps, when to evaluate, and the learning rate.
        pairs: the number of pairs in an epoch.
        emit: called with the events of each step.
        measure: takes the slow measurements.
        watch: begins to watch an update, see `SlowMeasurements.watch`.
        steps, tokens, seconds: when a race is resumed, the updates, tokens and seconds so far;
            seconds is the method's own time, without the slow measurements.
        elapsed: all seconds so far.
    """

    def __init__(
        self,
        config: RaceConfig,
        pairs: int,
        emit: Emit,
        measure: Measure,
        watch: Callable[[], Measure],
        *,
        steps: int = 0,
        tokens: int = 0,
        seconds: float = 0.0,
        elapsed: float = 0.0,
    ) -> None:
        self._config, self._pairs, self._emit = config, pairs, emit
        self._measure, self._watch, self._changes = measure, watch, dict
        self.method = config.methods[0]
        self.steps = self._before = steps  # updates done
        self.tokens, self._tokens_before = tokens, tokens
        self.seconds, self._seconds_before = seconds, seconds
        self.elapsed, self._elapsed_before = elapsed, elapsed
        self._held_out: Event = {}
        self._measuring = 0.0  # seconds in slow measurements
        self._began = time.perf_counter()

    def on_train_begin(self, args: Arguments, state: State, control: Control, **_: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_begin(self, args: Arguments, state: State, control: Control, **_: Any) -> None:
        """Take the slow measurements if they are due, and begin to watch the update."""
        step = self._before + state.global_step
        if self._due(step, self._config.measure_every):
            began = time.perf_counter()
            self._held_out.update(self._measure())
            self._changes = self._watch() if step < self._config.steps else dict
            self._measuring += time.perf_counter() - began

    def on_pre_optimizer_step(
        self, args: Arguments, state: State, control: Control, *, model: Model, **_: Any
    ) -> None:
        """Check that the gradient is finite, before it can spoil the weights.

        Raises:
            FloatingPointError: it is not.
        """
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        check_finite(self, torch.stack(gradients).norm().item(), "the norm of the gradient")

    def on_step_end(self, args: Arguments, state: State, control: Control, **_: Any) -> None:
        """Measure the update if it is watched, and make TRL evaluate if an evaluation is due."""
        began = time.perf_counter()
        self._held_out.update(self._changes())
        self._changes = dict  # returns nothing
        self._measuring += time.perf_counter() - began
        self.steps = self._before + state.global_step
        control.should_evaluate = self._due(self.steps, self._config.eval_every)

    def _due(self, step: int, every: int) -> bool:
        last = self._config.steps
        return every > 0 and (step == last or (step < last and step % every == 0))

    def on_log(
        self,
        args: Arguments,
        state: State,
        control: Control,
        *,
        logs: dict[str, float],
        **_: Any,
    ) -> None:
        """Keep an evaluation until the training log of its step, then emit both as one event."""
        if "eval_loss" in logs:
            measured = {name: v for name, v in logs.items() if name.startswith("eval_")}
            self._held_out.update((n, v) for n, v in measured.items() if not n.endswith(TIMINGS))
        elif "loss" in logs:
            step = self._before + state.global_step - 1
            spent = time.perf_counter() - self._began
            self.elapsed = self._elapsed_before + spent
            self.seconds = self._seconds_before + spent - self._measuring
            event = {
                **logs,
                "step": step,
                "learning_rate": self._config.learning_rate,
                "num_tokens": self.tokens,
                **self._held_out,
                "epoch": step * min(self._config.batch_size, self._pairs) / self._pairs,
                "time": self.elapsed,
                "own_time": self.seconds,
            }
            self.tokens, self._held_out = self._tokens_before + logs["num_tokens"], {}
            self.steps = step + 1
            self._emit({self.method: event})
