"""Train several methods side by side: the same start, the same batches, one step at a time."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean

import torch

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Emit, Event, Note, say_nothing
from adadpo_mini.methods import EVERY_METHOD
from adadpo_mini.models.policies import new_policy
from adadpo_mini.models.state import TrainingState
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.prepare import Prepared, prepare
from adadpo_mini.rlhf import RlhfTrainer
from adadpo_mini.system.threads import torch_threads
from adadpo_mini.trainer import MatchedNormTrainer, MethodTrainer, Trainer
from adadpo_mini.types import Model, Tokenizer

RACE = "race"  # no method's name


class Race:
    """A race that is ready to start: everything is loaded, tokenized and scored.

    Args:
        config: the settings.
        data: rows to use instead of the set or file that `config.data` names.
        splits: (training pairs, held-out pairs) to use instead of `data`.
        start: (model, tokenizer) to use instead of the model that `config.model` names.
        workers: how many methods train at the same time. By default all of them, if the machine
            has as many cores. The numbers do not depend on it.

    Attributes:
        prepared: the loaded data and models, see `Prepared`.
        config, reference, tokenizer, train_pairs, held_out, report, trained_on_held_out: see there.
        step: the next step, which is the number of updates that each method has had.
        batches: for each step, the indices of the pairs in its batch; the seed decides them.
        models: the policy of each method, trained in place.
        trainers: the trainer of each method.

    Raises:
        InputError: the data or the model cannot be used.
    """

    def __init__(
        self,
        config: RaceConfig,
        data: Iterable[dict] | None = None,
        splits: tuple[Pairs, Pairs] | None = None,
        start: tuple[Model, Tokenizer] | None = None,
        workers: int | None = None,
    ) -> None:
        self.prepared = prepare(config, data, splits, start)
        self.config, self.report = self.prepared.config, self.prepared.report
        self.reference, self.tokenizer = self.prepared.reference, self.prepared.tokenizer
        self.train_pairs, self.held_out = self.prepared.train_pairs, self.prepared.held_out
        self.trained_on_held_out = self.prepared.trained_on_held_out
        self.batches = batch_schedule(len(self.prepared.train), self.config)
        self.models: dict[str, Model] = {}
        self.trainers: dict[str, MethodTrainer] = {}
        for method in config.methods:
            self.models[method] = new_policy(
                self.reference,
                lora_rank=config.lora_rank,
                checkpointing=config.checkpointing,
                seed=config.seed,
            )
            self.trainers[method] = new_trainer(method, self.models[method], self.prepared)
        self.step, self.seconds = 0, 0.0
        self._workers = workers or min(len(config.methods), os.cpu_count() or 1)

    @staticmethod
    def check(config: RaceConfig) -> None:
        """Raise InputError if this kind of race cannot run with these settings."""

    def events(self) -> Iterator[tuple[str, Event]]:
        """Run the race and yield (method, event) for every step and method; see `run_steps`."""
        for events in self.run_steps():
            yield from events.items()

    def train(self, emit: Emit) -> None:
        """Run the race and call `emit` with the events of each step; see `run_steps`."""
        with closing(self.run_steps()) as steps:
            for events in steps:
                emit(events)

    def run_steps(self) -> Iterator[dict[str, Event]]:
        """Run the race and yield, for step 0, 1, ..., steps, the events by method.

        The methods train at the same time and wait for each other after every step. The race adds
        to each event `epoch`, `time` (seconds the race has computed so far) and `own_time` (seconds
        this method has computed, without the slow measurements). Stop iterating to stop the race;
        the models keep what they have learned.

        Raises:
            FloatingPointError: a method has diverged.
        """
        with (
            self._scores_kept(),
            torch_threads(self.config.threads),
            ThreadPoolExecutor(self._workers) as pool,
        ):
            began = time.perf_counter()
            for trainer in self.trainers.values():
                trainer.prepare(self.prepared.train.batch(b) for b in self.batches[:-1])
            self.seconds += time.perf_counter() - began
            while self.step <= self.config.steps:
                events = self._run_step(pool)
                self.step += 1
                yield events

    def _run_step(self, pool: ThreadPoolExecutor) -> dict[str, Event]:
        config, step, last = self.config, self.step, self.step == self.config.steps
        began = time.perf_counter()
        batch = self.prepared.train.batch(self.batches[step])
        evaluate = self.evaluates_at(step)
        measure = config.measure_every > 0 and (last or step % config.measure_every == 0)

        def run(trainer: MethodTrainer) -> Event:
            slow = self.measure(trainer, untrained=step == 0) if measure else {}
            held_out = trainer.evaluate(self.prepared.probe) if evaluate else {}
            changes = self.watch(trainer) if measure and not last else dict
            return {**trainer.step(batch, update=not last), **held_out, **slow, **changes()}

        events = list(pool.map(run, self.trainers.values()))
        self.seconds += time.perf_counter() - began
        clock = {"epoch": step * len(batch) / len(self.prepared.train), "time": self.seconds}
        return {
            method: {**event, **clock, "own_time": self.trainers[method].seconds}
            for method, event in zip(config.methods, events, strict=True)
        }

    def evaluates_at(self, step: int) -> bool:
        """Return whether the methods are measured on the held-out probe at this step."""
        return step % self.config.eval_every == 0 or step == self.config.steps

    def measure(self, trainer: MethodTrainer, *, untrained: bool = False) -> Event:
        """Take the slow measurements of a policy, see `SlowMeasurements.read`."""
        return self.prepared.slow.read(trainer.model, trainer.loss, untrained=untrained)

    def watch(self, trainer: MethodTrainer) -> Callable[[], Event]:
        """Begin to watch a policy's update, see `SlowMeasurements.watch`."""
        return self.prepared.slow.watch(trainer.model, trainer.loss)

    def state(self) -> TrainingState:
        """Return what `restore` needs to continue; the tensors share memory with the models."""
        parts = {method: trainer.state() for method, trainer in self.trainers.items()}
        # If a pair were scored again in another batch, the last bit might differ.
        scores = {"scores": self.prepared.train.scores}
        own = TrainingState(scores, {"step": self.step, "seconds": self.seconds})
        return TrainingState.join({**parts, RACE: own})

    def restore(self, state: TrainingState) -> None:
        """Continue from the state of a race with the same settings.

        Raises:
            InputError: the state belongs to another race.
        """
        own, scores = state.part(RACE), self.prepared.train.scores
        if own.tensors["scores"].shape != scores.shape:
            raise InputError("the saved state belongs to other pairs; start another race.")
        for method, trainer in self.trainers.items():
            trainer.restore(state.part(method))
        scores.copy_(own.tensors["scores"])
        self.step, self.seconds = own.numbers["step"], own.numbers["seconds"]

    @contextmanager
    def _scores_kept(self) -> Iterator[None]:
        """Save the reference's scores for the next run, however the race ends."""
        try:
            yield
        finally:
            if self.prepared.kept_scores:
                self.prepared.kept_scores.save(self.prepared.train.scores)


def with_matched_ratio(race: Race, note: Note = say_nothing) -> Race:
    """Set the ratio of `fixed_ratio` to AdaDPO's mean ρ, before the first step; return the race.

    AdaDPO trains once to measure it: the same start, pairs and order, without a run folder. A
    constant of this size gives the chosen side the same dose in total, so what differs between the
    two is due to adapting.

    Raises:
        InputError: AdaDPO diverges.
    """
    note("training adadpo first, to measure its mean ρ")
    given = {"splits": (race.train_pairs, race.held_out), "start": (race.reference, race.tokenizer)}
    alone = replace(race.config, methods=("adadpo",), match_ratio=False, measure_every=0)
    try:
        weights = [event["ada/rho"] for _, event in Race(alone, **given).events()]
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    ratio = round(fmean(weights[:-1]), 4)  # the last batch is not trained on
    note(f"the ratio of fixed_ratio is {ratio:g}, AdaDPO's mean ρ")
    race.config = replace(race.config, ratio=ratio)
    race.prepared = replace(race.prepared, config=race.config)
    control = "fixed_ratio"
    race.trainers[control] = new_trainer(control, race.models[control], race.prepared)
    return race


def new_trainer(method: str, policy: Model, prepared: Prepared) -> MethodTrainer:
    """Make the trainer of a method, as its entry in the registry says."""
    return TRAINERS[EVERY_METHOD[method].trained_by](method, policy, prepared)


def _pair_trainer(
    method: str, policy: Model, prepared: Prepared, new: type[Trainer] = Trainer
) -> Trainer:
    config = prepared.config
    return new(
        policy,
        method,
        learning_rate=config.learning_rate,
        knobs=config.knobs(),
        checkpointing=config.checkpointing,
        **prepared.scoring,
    )


def _rlhf_trainer(method: str, policy: Model, prepared: Prepared) -> RlhfTrainer:
    config = prepared.config
    return RlhfTrainer(
        policy,
        prepared.reference,
        prepared.tokenizer,
        learning_rate=config.learning_rate,
        beta=config.beta,
        seed=config.seed,
        **prepared.scoring,
    )


TRAINERS: dict[str, Callable[[str, Model, Prepared], MethodTrainer]] = {
    "pairs": _pair_trainer,
    "matched_norm": partial(_pair_trainer, new=MatchedNormTrainer),
    "rlhf": _rlhf_trainer,
}


def batch_schedule(pair_count: int, config: RaceConfig) -> list[list[int]]:
    """Return the indices of every step's batch, steps + 1 of them; the seed alone decides them.

    Each epoch visits all pairs in a new random order. The last pairs of an epoch are left out if
    they do not fill a batch.
    """
    generator = torch.Generator().manual_seed(config.seed)
    size = min(config.batch_size, pair_count)
    batches: list[list[int]] = []
    while len(batches) <= config.steps:
        order = torch.randperm(pair_count, generator=generator).tolist()
        batches += [order[i : i + size] for i in range(0, pair_count - size + 1, size)]
    return batches[: config.steps + 1]
