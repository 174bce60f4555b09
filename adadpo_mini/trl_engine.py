"""`adadpo-mini train --engine trl`: a race of one that TRL's trainer runs, written as any race."""

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback
from transformers.utils import logging

from adadpo_mini.contest import Race, torch_threads
from adadpo_mini.errors import InputError
from adadpo_mini.race import RaceResult, conduct
from adadpo_mini.runs import RunFolder
from adadpo_mini.settings import KNOBS, RaceConfig
from adadpo_mini.tokens import TokenizedPair
from adadpo_mini.trainer import Emit, Event
from adadpo_mini.trl import OUR_KNOBS, AdaDPOConfig, AdaDPOTrainer, check_method
from adadpo_mini.trl_events import EventLog

UNDERSTOOD = {
    "data", "model", "methods", "steps", "batch_size", "learning_rate", "seed", "eval_every",
    "eval_pairs", "measure_every", "threads", "device", "checkpointing", "lora_rank",
    *KNOBS,
}  # fmt: skip
"""The fields of `RaceConfig` that mean here what they mean in a race."""


class _Tokenised(AdaDPOTrainer):
    """Takes pairs as token ids: those of the race, so that both engines read the same."""

    def _prepare_dataset(self, dataset, *_):
        return dataset


class TrlRace(Race):
    """A race of one method over the same start, batches and held-out pairs, that TRL trains."""

    def train(self, emit: Emit) -> None:
        """Train, calling `emit` with (method, event) for step 0, 1, ..., steps.

        Raises:
            FloatingPointError: training has diverged; the model is as after the last good update.
        """
        threads = torch_threads(self.config.threads)
        with tempfile.TemporaryDirectory() as scratch, _quiet(), threads:
            trainer = self._trl_trainer(scratch, emit)
            trainer.remove_callback(PrinterCallback)  # standard output is for the summary
            trainer.train()
        trainer.model.eval()

    def _trl_trainer(self, scratch: str, emit: Emit) -> AdaDPOTrainer:
        config, batches = self.config, self._schedule
        pairs, probe = self._train.pairs, self._probe_pairs
        model, own = self.models[config.methods[0]], self._trainers[config.methods[0]]

        def measure() -> Event:
            model.eval()  # with checkpointing, a model in training cannot answer
            return self._meters.read(own)

        arguments = AdaDPOConfig(
            output_dir=scratch,
            method=config.methods[0],
            beta=config.beta,
            **{name: getattr(config, name) for name in OUR_KNOBS},
            max_steps=len(batches),
            per_device_train_batch_size=len(batches[0]),
            per_device_eval_batch_size=len(probe),
            train_sampling_strategy="sequential",
            seed=config.seed % 2**32,
            max_length=None,
            eval_on_start=True,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=self.reference.device.type == "cpu",
        )
        arguments._n_gpu = 1  # or several GPUs would share, and so enlarge, the batch
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, config.learning_rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: float(s < config.steps))
        return _Tokenised(
            model,
            self.reference,
            arguments,
            train_dataset=_as_dataset([pairs[i] for batch in batches for i in batch]),
            eval_dataset=_as_dataset(probe),
            processing_class=self.tokenizer,
            optimizers=(optimizer, schedule),
            callbacks=[EventLog(config, len(pairs), emit, measure)],
        )


def train_with_trl(
    data: str | Path | Iterable[dict] = "tone",
    *,
    out: str | Path | None = None,
    on_event: Emit = lambda method, event: None,
    **settings,
) -> RaceResult:
    """`race.race` for one method, trained by TRL; arguments, result and run folder as there.

    Raises:
        InputError: as there; or several methods, one that TRL's trainer cannot take, a setting
            that this engine does not understand, or several processes.
    """
    by_name = isinstance(data, (str, Path))
    config = RaceConfig(
        **{"methods": ("adadpo",), **settings, "data": str(data) if by_name else "rows"}
    )
    _check_understood(config)
    if out is not None:
        RunFolder.check_free(out)
    contest = TrlRace(config, data=None if by_name else data)
    return conduct(contest, contest.train, out=out, on_event=on_event, engine="trl")


def _check_understood(config: RaceConfig) -> None:
    if len(config.methods) > 1:
        raise InputError(
            f"TRL trains one method at a time, not {', '.join(config.methods)}; give one."
        )
    check_method(config.methods[0])
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "this command trains in one process; for several, launch a script with AdaDPOTrainer, "
            "as tutorials/from_toy_to_llama.md shows."
        )
    for field in fields(RaceConfig):
        value = getattr(config, field.name)
        if field.name not in UNDERSTOOD and value != field.default:
            raise InputError(
                f"{field.name}={value!r} is for the own engine only; leave it out, or use "
                "AdaDPOTrainer from Python, which takes every option of TRL."
            )


def _as_dataset(pairs: Iterable[TokenizedPair]) -> Dataset:
    return Dataset.from_list(
        [
            {"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected}
            for p in pairs
        ]
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers has to say on its own future."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            logging.set_verbosity(before)
