"""Several methods over the same start, batches and seeds, step by step side by side."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import torch

from adadpo_mini.config import KNOBS, RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Emit, Event
from adadpo_mini.methods import RLHF
from adadpo_mini.models.policies import new_policy
from adadpo_mini.models.state import TrainingState
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.prepare import Prepared, prepare
from adadpo_mini.rlhf import RlhfTrainer
from adadpo_mini.system.threads import torch_threads
from adadpo_mini.trainer import MethodTrainer, Trainer

RACE = "race"  # no method's name


class Race:
    """A race, ready to start: everything is loaded, tokenised and scored by the reference.

    Args:
        config: the settings.
        data: rows to use in place of the set or file that `config.data` names.
        splits: (training pairs, held-out pairs), already parted, to use in place of `data`.
        start: (model, tokenizer) to use in place of the model that `config.model` names.
        workers: how many methods train at the same time; all of them if left out and the machine
            has the cores. The numbers do not depend on it.

    Attributes:
        prepared: what it starts from, see `Prepared`.
        config, reference, tokenizer, train_pairs, held_out, report, trained_on_held_out: as there.
        step: the next step; so many updates each method has had.
        batches: the indices of the pairs of every step's batch, fixed by the seed.
        models: the policy of each method, trained in place as the race goes.
        trainers: what trains each method.

    Raises:
        InputError: the data or the model cannot be used; nothing has been trained then.
    """

    def __init__(
        self,
        config: RaceConfig,
        data: Iterable[dict] | None = None,
        splits: tuple[Pairs, Pairs] | None = None,
        start: tuple | None = None,
        workers: int | None = None,
    ) -> None:
        self.prepared = prepare(config, data, splits, start)
        self.config, self.report = self.prepared.config, self.prepared.report
        self.reference, self.tokenizer = self.prepared.reference, self.prepared.tokenizer
        self.train_pairs, self.held_out = self.prepared.train_pairs, self.prepared.held_out
        self.trained_on_held_out = self.prepared.trained_on_held_out
        self.batches = batch_schedule(len(self.prepared.train), self.config)
        self.models, self.trainers = {}, {}
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
        """Raise InputError if this kind of race cannot run these settings."""

    def events(self) -> Iterator[tuple[str, Event]]:
        """Run the race, yielding (method, event) for step 0, 1, ..., steps of every method; see
        `run_steps`."""
        for events in self.run_steps():
            yield from events.items()

    def train(self, emit: Emit) -> None:
        """Run the race, handing on the events of each step; see `run_steps`."""
        with closing(self.run_steps()) as steps:
            for events in steps:
                emit(events)

    def run_steps(self) -> Iterator[dict[str, Event]]:
        """Run the race, yielding the events of step 0, 1, ..., steps, by method.

        The methods train at the same time and wait for one another after every step. To a
        trainer's event the race adds `epoch`, `time` (seconds that the race has computed so far)
        and `own_time` (those of this method alone, without the slow measurements). Stop iterating
        to stop the race; the models keep what they have learned.

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
        evaluate = last or step % config.eval_every == 0
        measure = config.measure_every > 0 and (last or step % config.measure_every == 0)

        def run(trainer: MethodTrainer) -> Event:
            slow = self.measure(trainer, untrained=step == 0) if measure else {}
            held_out = trainer.evaluate(self.prepared.probe) if evaluate else {}
            return {**trainer.step(batch, update=not last), **held_out, **slow}

        events = list(pool.map(run, self.trainers.values()))
        self.seconds += time.perf_counter() - began
        clock = {"epoch": step * len(batch) / len(self.prepared.train), "time": self.seconds}
        return {
            method: {**event, **clock, "own_time": self.trainers[method].seconds}
            for method, event in zip(config.methods, events, strict=True)
        }

    def measure(self, trainer: MethodTrainer, *, untrained: bool = False) -> Event:
        """The slow measurements of a policy, see `SlowMeasurements.read`."""
        return self.prepared.slow.read(trainer.model, trainer.loss, untrained=untrained)

    def state(self) -> TrainingState:
        """What `restore` needs to go on from here; it shares its memory with the models."""
        parts = {method: trainer.state() for method, trainer in self.trainers.items()}
        # Scored again in another batch, a pair's score might differ in its last bit.
        scores = {"scores": self.prepared.train.scores}
        own = TrainingState(scores, {"step": self.step, "seconds": self.seconds})
        return TrainingState.join({**parts, RACE: own})

    def restore(self, state: TrainingState) -> None:
        """Go on where a race of the same settings was.

        Raises:
            InputError: the state is that of another race.
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
        """Keep what the reference has scored, however the race ends."""
        try:
            yield
        finally:
            if self.prepared.kept_scores:
                self.prepared.kept_scores.save(self.prepared.train.scores)


def new_trainer(method: str, policy, prepared: Prepared) -> MethodTrainer:
    """What trains a method: for a loss on pairs the `Trainer`, for RLHF its own."""
    return HOW_TRAINED.get(method, _pair_trainer)(method, policy, prepared)


def _pair_trainer(method: str, policy, prepared: Prepared) -> Trainer:
    config = prepared.config
    return Trainer(
        policy,
        method,
        learning_rate=config.learning_rate,
        knobs={name: getattr(config, name) for name in KNOBS},
        checkpointing=config.checkpointing,
        **prepared.scoring,
    )


def _rlhf_trainer(method: str, policy, prepared: Prepared) -> RlhfTrainer:
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


HOW_TRAINED: dict[str, Callable[[str, object, Prepared], MethodTrainer]] = {RLHF: _rlhf_trainer}


def batch_schedule(pair_count: int, config: RaceConfig) -> list[list[int]]:
    """The indices of every step's batch, steps + 1 of them, fixed by the seed alone.

    Each epoch visits all pairs in a new random order; a rest too small for a batch is left out.
    """
    generator = torch.Generator().manual_seed(config.seed)
    size = min(config.batch_size, pair_count)
    batches: list[list[int]] = []
    while len(batches) <= config.steps:
        order = torch.randperm(pair_count, generator=generator).tolist()
        batches += [order[i : i + size] for i in range(0, pair_count - size + 1, size)]
    return batches[: config.steps + 1]
