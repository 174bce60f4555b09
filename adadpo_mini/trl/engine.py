"""`race(engine="trl")`: a race of one method, run by TRL's trainer."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields

import torch
from datasets import Dataset
from transformers import PrinterCallback
from transformers.utils import logging

from adadpo_mini.config import KNOBS, RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Emit, Event
from adadpo_mini.lockstep import RACE, Race
from adadpo_mini.methods import METHODS
from adadpo_mini.models.state import (
    TrainingState,
    adamw_state,
    restore_adamw,
    restore_weights,
    trained_weights,
)
from adadpo_mini.system.threads import torch_threads
from adadpo_mini.tokens.batch import TokenizedPair
from adadpo_mini.trainer import counters
from adadpo_mini.trl.events import EventLog
from adadpo_mini.trl.trainer import OUR_KNOBS, AdaDPOConfig, AdaDPOTrainer, check_method

UNDERSTOOD = {
    "data", "model", "methods", "steps", "batch_size", "learning_rate", "seed", "eval_every",
    "eval_pairs", "measure_every", "threads", "device", "checkpointing", "lora_rank",
    "snapshot_every", "snapshot_gb",
    *KNOBS,
}  # fmt: skip
"""The fields of `RaceConfig` that have the same meaning here as in our own engine."""


class _Tokenised(AdaDPOTrainer):
    """Takes the token ids of the race, so that both engines read the same tokens."""

    def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
        return dataset


class TrlRace(Race):
    """A race of one method that TRL trains: same start, same batches, same held-out pairs."""

    _restored = TrainingState({}, {})
    _log: EventLog | None = None

    @staticmethod
    def check(config: RaceConfig) -> None:
        """Check that TRL's trainer can run this race.

        Raises:
            InputError: there are several methods or processes, TRL's trainer does not support the
                method, or a setting has no meaning here.
        """
        if len(config.methods) > 1:
            raise InputError(
                f"TRL trains one method at a time, not {', '.join(config.methods)}; choose one."
            )
        check_method(config.methods[0])
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "this command trains in one process; for several, launch a script that uses "
                "AdaDPOTrainer, as tutorials/from_toy_to_llama.md shows."
            )
        for field in fields(RaceConfig):
            value = getattr(config, field.name)
            if field.name not in UNDERSTOOD and value != field.default:
                raise InputError(
                    f"{field.name}={value!r} works only without --engine trl; leave it out, or use "
                    "AdaDPOTrainer in Python, which takes every option of TRL."
                )

    def train(self, emit: Emit) -> None:
        """Train, and call `emit` with the events of steps 0, 1, ..., steps.

        Raises:
            FloatingPointError: training has diverged. The model keeps its last finite update.
        """
        if self.step > self.config.steps:
            return
        threads = torch_threads(self.config.threads)
        with tempfile.TemporaryDirectory() as scratch, _quiet(), threads:
            trainer = self._trl_trainer(scratch, emit)
            trainer.remove_callback(PrinterCallback)  # it would print to standard output
            try:
                trainer.train()
            finally:
                trainer.model.eval()

    def state(self) -> TrainingState:
        """Return the state of the race, including the optimizer that TRL drives."""
        if self._log is None:  # no training since the state was restored
            return self._restored
        (method,) = self.config.methods
        tensors = {**trained_weights(self.models[method]), **adamw_state(self._adamw)}
        part = TrainingState(tensors, counters(self._log))
        own = {"step": self.step, "seconds": self._log.elapsed}
        return TrainingState.join({method: part, RACE: TrainingState({}, own)})

    def restore(self, state: TrainingState) -> None:
        """Restore the state of a race. TRL then trains on the remaining batches."""
        (method,) = self.config.methods
        self._restored = state
        restore_weights(self.models[method], state.part(method).tensors)
        own = state.part(RACE)
        self.step, self.seconds = own.numbers["step"], own.numbers["seconds"]

    def _trl_trainer(self, scratch: str, emit: Emit) -> AdaDPOTrainer:
        config, batches = self.config, self.batches[self.step :]
        pairs, probe = self.prepared.train.pairs, self.prepared.probe_tokens
        model = self.models[config.methods[0]]
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._adamw = torch.optim.AdamW(weights, config.learning_rate, weight_decay=0.0)
        before = self._restored.part(config.methods[0])
        restore_adamw(self._adamw, before.tensors)
        left = config.steps - self.step
        schedule = torch.optim.lr_scheduler.LambdaLR(self._adamw, lambda s: float(s < left))
        self._log = self._event_log(emit, before.numbers)
        return _Tokenised(
            model,
            self.reference,
            self._arguments(scratch, len(batches), len(batches[0])),
            train_dataset=_as_dataset([pairs[i] for batch in batches for i in batch]),
            eval_dataset=_as_dataset(probe),
            processing_class=self.tokenizer,
            optimizers=(self._adamw, schedule),
            callbacks=[self._log],
        )

    def _event_log(self, emit: Emit, before: Mapping[str, float]) -> EventLog:
        (method,) = self.config.methods
        model = self.models[method]
        loss = METHODS[method].bind(self.config.knobs())

        def measure() -> Event:
            model.eval()  # with checkpointing, a model in training mode cannot generate
            return self.prepared.slow.read(model, loss)

        def watch() -> Callable[[], Event]:
            return self.prepared.slow.watch(model, loss)

        def count(events: Mapping[str, Event]) -> None:
            self.step += 1
            emit(events)

        pairs = len(self.prepared.train.pairs)
        return EventLog(self.config, pairs, count, measure, watch, elapsed=self.seconds, **before)

    def _arguments(self, scratch: str, steps: int, batch_size: int) -> AdaDPOConfig:
        config = self.config
        arguments = AdaDPOConfig(
            output_dir=scratch,
            method=config.methods[0],
            beta=config.beta,
            **{name: getattr(config, name) for name in OUR_KNOBS},
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=len(self.prepared.probe_tokens),
            train_sampling_strategy="sequential",
            seed=config.seed % 2**32,
            max_length=None,
            eval_on_start=self.step % config.eval_every == 0 or self.step == config.steps,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=self.reference.device.type == "cpu",
        )
        arguments._n_gpu = 1  # with several GPUs, transformers would multiply the batch size
        return arguments


def _as_dataset(pairs: Iterable[TokenizedPair]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected}
            for p in pairs
        ]
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of transformers about its future versions."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            logging.set_verbosity(before)
