"""The contest itself: several methods over the same start, batches and seeds, in lockstep."""

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property

import torch

from adadpo_mini.cache import digest
from adadpo_mini.errors import InputError
from adadpo_mini.generate import sample_answers
from adadpo_mini.judge import win_rate
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.mass import LONGEST_ANSWER
from adadpo_mini.memory import SMALL, check_training_fits
from adadpo_mini.meters import Meters
from adadpo_mini.methods import RLHF
from adadpo_mini.models import context_length, load_model
from adadpo_mini.packed import PackedTokens, RefScores, fit_pairs, model_key
from adadpo_mini.pairs import Pairs, load_splits
from adadpo_mini.policies import new_policy
from adadpo_mini.rlhf import RlhfTrainer
from adadpo_mini.scoring import Logps, ScoredPairs
from adadpo_mini.screening import told
from adadpo_mini.settings import KNOBS, RaceConfig
from adadpo_mini.shared_prompt import can_share_prompts, shared_logps
from adadpo_mini.state import TrainingState
from adadpo_mini.templates import prompt_form
from adadpo_mini.threads import choose_threads, torch_threads
from adadpo_mini.tokens import make_batch
from adadpo_mini.toyworld.grammar import find_topic
from adadpo_mini.trainer import Emit, Event, Trainer

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
        config: the settings, with the number of threads that was chosen where none was given.
        step: the next step; so many updates each method has had.
        reference: the model all methods start from; it is never trained.
        models: the policy of each method, trained in place as the race goes.
        report: a sentence on what became of the rows of both sides; None if there is nothing to
            tell.
        train_pairs: the pairs that are trained on.
        held_out: the held-out pairs; the first `eval_pairs` of them are the probe.
        trained_on_held_out: True if the pairs have one prompt only and cannot be parted, so that
            what is measured is what was trained on.

    Raises:
        InputError: the data or the model cannot be used; nothing has been trained then.
    """

    def __init__(
        self,
        config: RaceConfig,
        data: Iterable[dict] | None = None,
        splits: tuple[Pairs, Pairs] | None = None,
        start=None,
        workers: int | None = None,
    ) -> None:
        self._workers = workers or min(len(config.methods), os.cpu_count() or 1)
        train, held_out = splits or load_splits(config.data if data is None else data)
        self.trained_on_held_out = train is held_out
        self.reference, self.tokenizer = start or load_model(
            config.model, device=config.device, dtype=config.dtype
        )
        self.reference.eval().requires_grad_(False)
        parameters = self.reference.num_parameters()
        threads = config.threads or choose_threads(parameters, len(config.methods))
        self.config = config = replace(config, threads=threads)
        context = context_length(self.reference)
        self.train_pairs, tokenized = fit_pairs(train, self.tokenizer, context)
        self.held_out, fitting = fit_pairs(held_out, self.tokenizer, context)
        self.report = told(self.train_pairs.report, self.held_out.report)
        self._probe_pairs = probe = fitting[: config.eval_pairs]
        self._tokens = digest((tokenized.ids, tokenized.ends, fitting.ids, fitting.ends))
        self._check_memory(tokenized)
        if RLHF in config.methods and self.reference.device.type != "cpu":
            raise InputError("rlhf trains on the CPU only: add --device cpu, or leave rlhf out.")
        self.prompt_form = prompt_form([pair["prompt"] for pair in self.train_pairs[:1000]])

        self._schedule = batch_schedule(len(tokenized), config)
        self._scoring = {
            "logps": self._fastest(tokenized, fitting),
            "pairs_at_once": config.pairs_at_once or config.batch_size,
        }
        self._meters = Meters(
            self.reference, self.tokenizer, self.held_out, fitting, config.seed, **self._scoring
        )
        self._kept = self._kept_scores(tokenized)
        known = self._kept.load() if self._kept else None
        self._train = ScoredPairs(self.reference, tokenized, **self._scoring, known=known)
        self._probe = ScoredPairs(self.reference, probe, **self._scoring).batch(range(len(probe)))
        self.models, self._trainers = {}, {}
        for method in config.methods:
            self.models[method] = new_policy(
                self.reference,
                lora_rank=config.lora_rank,
                checkpointing=config.checkpointing,
                seed=config.seed,
            )
            self._trainers[method] = self._new_trainer(method)
        self.step = 0
        self.seconds = 0.0

    def _kept_scores(self, pairs: PackedTokens) -> RefScores | None:
        """Where a large reference's scores are kept for the next run; a small one scores at once.

        The last bit of a score depends on what else is in the batch, so that a race with other
        batches scores anew.
        """
        if self.reference.num_parameters() < SMALL:
            return None
        config, how = self.config, self._scoring
        return RefScores(
            pairs,
            self.reference,
            seed=config.seed,
            batch=config.batch_size,
            threads=config.threads,
            at_once=config.pairs_at_once,
            logps=how["logps"].__name__,
        )

    def _check_memory(self, pairs: PackedTokens) -> None:
        config = self.config
        check_training_fits(
            self.reference,
            self.reference.device,
            policies=len(config.methods),
            pairs_at_once=min(config.batch_size, config.pairs_at_once or config.batch_size),
            longest=int(pairs.lengths.sum(dim=1).max()),
            lora_rank=config.lora_rank,
            checkpointing=config.checkpointing,
        )

    def _fastest(self, *tokenized: PackedTokens) -> Logps:
        """How this model's completions are scored: with the prompt read once, if it can do that."""
        extremes = [
            pairs[int(find(pairs.lengths.sum(dim=1)))]
            for pairs in tokenized
            for find in (torch.argmax, torch.argmin)
        ]
        rows = make_batch(extremes).to(self.reference.device)
        can = can_share_prompts(self.reference, rows.input_ids, rows.completion_mask)
        return shared_logps if can else completion_logps

    def _new_trainer(self, method: str) -> Trainer | RlhfTrainer:
        config, policy = self.config, self.models[method]
        if method == RLHF:
            return RlhfTrainer(
                policy,
                self.reference,
                self.tokenizer,
                learning_rate=config.learning_rate,
                beta=config.beta,
                seed=config.seed,
                **self._scoring,
            )
        knobs = {name: getattr(config, name) for name in KNOBS}
        return Trainer(
            policy,
            method,
            learning_rate=config.learning_rate,
            knobs=knobs,
            checkpointing=config.checkpointing,
            **self._scoring,
        )

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

        The methods train at the same time, one thread each, and wait for one another after every
        step. To a trainer's event the race adds `epoch`, `time` (seconds that the race has computed
        so far) and `own_time` (those of this method alone, its reward model's included). Stop
        iterating to stop the race; the models keep what they have learned.

        Raises:
            FloatingPointError: a method has diverged.
        """
        with (
            self._scores_kept(),
            torch_threads(self.config.threads),
            ThreadPoolExecutor(self._workers) as pool,
        ):
            self._fit_reward_models()
            while self.step <= self.config.steps:
                events = self._run_step(pool)
                self.step += 1
                yield events

    def _run_step(self, pool: ThreadPoolExecutor) -> dict[str, Event]:
        config, step = self.config, self.step
        began = time.perf_counter()
        indices = self._schedule[step]
        batch = self._train.batch(indices)
        last = step == config.steps
        evaluate = last or step % config.eval_every == 0
        measure = config.measure_every > 0 and (last or step % config.measure_every == 0)

        def run(trainer: Trainer | RlhfTrainer) -> Event:
            slow = self._meters.read(trainer, untrained=step == 0) if measure else {}
            measured = trainer.evaluate(self._probe) if evaluate else {}
            return {**trainer.step(batch, update=not last), **measured, **slow}

        events = list(pool.map(run, self._trainers.values()))
        self.seconds += time.perf_counter() - began
        epoch = step * len(indices) / len(self._train)
        return {
            method: {
                **event,
                "epoch": epoch,
                "time": self.seconds,
                "own_time": self._trainers[method].seconds,
            }
            for method, event in zip(config.methods, events, strict=True)
        }

    def state(self) -> TrainingState:
        """What `restore` needs to go on from here; it shares its memory with the models."""
        parts = {method: trainer.state() for method, trainer in self._trainers.items()}
        # Scored again in another batch, a pair's score might differ in its last bit.
        scores = {"scores": self._train.scores}
        own = TrainingState(scores, {"step": self.step, "seconds": self.seconds})
        return TrainingState.join({**parts, RACE: own})

    def restore(self, state: TrainingState) -> None:
        """Go on where a race of the same settings was.

        Raises:
            InputError: the state is that of another race.
        """
        own = state.part(RACE)
        if own.tensors["scores"].shape != self._train.scores.shape:
            raise InputError("the kept state is that of other pairs; race again.")
        for method, trainer in self._trainers.items():
            trainer.restore(state.part(method))
        self._train.scores.copy_(own.tensors["scores"])
        self.step, self.seconds = own.numbers["step"], own.numbers["seconds"]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the tokenised pairs and of the reference: what else than the settings decides
        the numbers."""
        return digest([self._tokens, model_key(self.reference)])

    @contextmanager
    def _scores_kept(self) -> Iterator[None]:
        """Keep what the reference has scored, however the race ends."""
        try:
            yield
        finally:
            if self._kept:
                self._kept.save(self._train.scores)

    def _fit_reward_models(self) -> None:
        """RLHF's first stage, on the batches that the race will train on, in their order."""
        began = time.perf_counter()
        for trainer in self._trainers.values():
            if isinstance(trainer, RlhfTrainer) and not trainer.is_fitted:
                # A list: what scoring the pairs takes is no cost of RLHF's alone.
                trainer.fit_reward_model([self._train.batch(b) for b in self._schedule[:-1]])
        self.seconds += time.perf_counter() - began

    def forget_training(self) -> None:
        """Free what only training needs; the models stay."""
        self._trainers.clear()
        del self._train, self._probe, self._meters

    @property
    def probe_prompts(self) -> list[str]:
        """The held-out prompts that are asked to judge a model, `eval_pairs` at the most."""
        prompts = list(dict.fromkeys(pair["prompt"] for pair in self.held_out))
        return prompts[: self.config.eval_pairs]

    def answers(self, name: str) -> list[str]:
        """A method's answers to the probe's prompts, or those of "reference", all with one seed."""
        return sample_answers(
            self.reference if name == "reference" else self.models[name],
            self.tokenizer,
            self.probe_prompts,
            seed=self.config.seed,
            max_new_tokens=LONGEST_ANSWER,
        )

    def win_rates(self) -> dict[str, float] | None:
        """Share of the probe's prompts on which the judge prefers a method's answer to the
        reference's, both sampled with the same seed; None outside the toy world."""
        prompts = self.probe_prompts
        if not all(find_topic(prompt) for prompt in prompts):
            return None
        rivals = self.answers("reference")
        return {method: win_rate(prompts, self.answers(method), rivals) for method in self.models}


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
