"""TRL's logs as our events."""

import time
from collections.abc import Callable

import torch
from transformers import TrainerCallback

from adadpo_mini.config import RaceConfig
from adadpo_mini.event import Emit, Event
from adadpo_mini.trainer import check_finite

Measure = Callable[[], Event]
TIMINGS = ("_runtime", "_per_second", "_num_tokens", "_time")


class EventLog(TrainerCallback):
    """Turns what TRL logs into our events, and has it evaluate when a race would.

    TRL counts updates done, and so calls 1 the step whose batch it measured before any update; in
    our events that is step 0. Its evaluations, though, are of the model as it then is, so that
    the one at its step s belongs with the batch it logs at s + 1. Hence event s holds TRL's
    training row s + 1 and its evaluation s, both of the model after s updates. In a race the last
    event comes with no update; here TRL makes one at learning rate 0, which changes nothing.

    Args:
        config: says how many steps there are, when to evaluate, and the learning rate.
        pairs: how many pairs an epoch has.
        emit: called with the events of each step.
        measure: takes the slow measurements.
        steps, tokens, seconds: updates, their tokens and their time before this trainer began,
            where a race is resumed.
    """

    def __init__(
        self,
        config: RaceConfig,
        pairs: int,
        emit: Emit,
        measure: Measure,
        *,
        steps: int = 0,
        tokens: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self._config, self._pairs, self._emit, self._measure = config, pairs, emit, measure
        self.method = config.methods[0]
        self.steps = self._before = steps  # updates done
        self.tokens, self._tokens_before = tokens, tokens
        self.seconds, self._seconds_before = seconds, seconds
        self._held_out: Event = {}
        self._began = time.perf_counter()

    def on_train_begin(self, args, state, control, **_) -> None:
        self._began = time.perf_counter()

    def on_step_begin(self, args, state, control, **_) -> None:
        if self._due(self._before + state.global_step, self._config.measure_every):
            self._held_out.update(self._measure())

    def on_pre_optimizer_step(self, args, state, control, model=None, **_) -> None:
        gradients = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        check_finite(self, torch.stack(gradients).norm().item(), "the norm of the gradient")

    def on_step_end(self, args, state, control, **_) -> None:
        self.steps = self._before + state.global_step
        control.should_evaluate = self._due(self.steps, self._config.eval_every)

    def _due(self, step: int, every: int) -> bool:
        last = self._config.steps
        return every > 0 and (step == last or (step < last and step % every == 0))

    def on_log(self, args, state, control, logs=None, **_) -> None:
        if "eval_loss" in logs:
            measured = {name: v for name, v in logs.items() if name.startswith("eval_")}
            self._held_out.update((n, v) for n, v in measured.items() if not n.endswith(TIMINGS))
        elif "loss" in logs:
            step = self._before + state.global_step - 1
            self.seconds = self._seconds_before + time.perf_counter() - self._began
            event = {
                **logs,
                "step": step,
                "learning_rate": self._config.learning_rate,
                "num_tokens": self.tokens,
                **self._held_out,
                "epoch": step * min(self._config.batch_size, self._pairs) / self._pairs,
                "time": self.seconds,
                "own_time": self.seconds,
            }
            self.tokens, self._held_out = self._tokens_before + logs["num_tokens"], {}
            self.steps = step + 1
            self._emit({self.method: event})
