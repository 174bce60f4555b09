"""Several methods over the same start, batches and seeds, in lockstep."""

import copy
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from adadpo_mini.errors import InputError
from adadpo_mini.generate import sample_answers
from adadpo_mini.judge import win_rate
from adadpo_mini.mass import LONGEST_ANSWER
from adadpo_mini.meters import Meters
from adadpo_mini.methods import METHODS
from adadpo_mini.models import context_length, load_model
from adadpo_mini.pairs import load_splits, tokenize_pairs
from adadpo_mini.runs import RunFolder
from adadpo_mini.toyworld.grammar import find_topic
from adadpo_mini.trainer import Event, ScoredPairs, Trainer

KNOBS = (
    "beta", "ceiling", "space", "length_normalize", "k", "floor", "ratio",
    "gamma", "alpha", "nll_weight", "penalty", "per_token",
)  # fmt: skip


@dataclass(frozen=True)
class RaceConfig:
    """The settings of a race, checked when made.

    `threads` is the number of CPU threads each method gets; all methods train at the same time.
    `measure_every` says how often the slow measurements are taken, see `meters.py`: every so many
    steps and at the end; 0 for never.
    β and all from `ceiling` on are the losses' knobs, by the names they have there; a method takes
    those that its loss knows.

    Raises:
        InputError: a value is out of range.
    """

    data: str = "tone"
    model: str = "toy"
    methods: tuple[str, ...] = ("dpo", "adadpo")
    steps: int = 120
    batch_size: int = 16
    beta: float = 0.1
    learning_rate: float = 2e-4
    seed: int = 0
    eval_every: int = 5
    eval_pairs: int = 32
    measure_every: int = 60
    threads: int = 1
    ceiling: float = 2.0
    space: str = "ratio"
    length_normalize: bool = True
    k: float = 1.0
    floor: float | None = None
    ratio: float = 2.0
    gamma: float = 0.5
    alpha: float = 0.01
    nll_weight: float = 1.0
    penalty: float = 50.0
    per_token: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", tuple(self.methods))
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(
                f"methods must be different ones of {', '.join(METHODS)}, not "
                f"{', '.join(self.methods) or 'none'}."
            )
        for name in ("steps", "batch_size", "eval_every", "eval_pairs", "threads"):
            value = getattr(self, name)
            _require(_is_whole(value) and value >= 1, name, "a whole number from 1 up", value)
        whole = _is_whole(self.measure_every) and self.measure_every >= 0
        _require(whole, "measure_every", "a whole number from 0 up", self.measure_every)
        seed_fits = _is_whole(self.seed) and 0 <= self.seed < 1 << 63
        _require(seed_fits, "seed", "a whole number from 0 up, below 2^63", self.seed)
        for name in ("beta", "learning_rate", "ceiling", "k", "ratio"):
            value = getattr(self, name)
            _require(_is_number(value) and value > 0, name, "positive, up to a million", value)
        for name in ("gamma", "alpha", "nll_weight", "penalty"):
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, "from 0 to a million", value)
        _require(self.eval_every <= 5, "eval_every", "at most 5", self.eval_every)
        _require(self.space in ("ratio", "policy"), "space", "'ratio' or 'policy'", self.space)
        floor_fits = self.floor is None or (
            _is_number(self.floor) and 0 < self.floor <= self.ceiling
        )
        _require(floor_fits, "floor", "positive and at most the ceiling", self.floor)

    def as_dict(self) -> dict:
        return {**asdict(self), "methods": list(self.methods)}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite number with which no step overflows fp32."""
    return isinstance(value, (int, float)) and abs(value) <= 1e6


def _require(true: bool, name: str, wanted: str, got: object) -> None:
    if not true:
        raise InputError(f"{name} must be {wanted}, not {got!r}.")


class Race:
    """A race, ready to start: everything is loaded, tokenised and scored by the reference.

    Args:
        config: the settings.
        data: rows to use in place of the set or file that `config.data` names.
        start: (model, tokenizer) to use in place of the model that `config.model` names.
        workers: how many methods train at the same time; all of them if left out and the machine
            has the cores. The numbers do not depend on it.

    Attributes:
        reference: the model all methods start from; it is never trained.
        models: the policy of each method, trained in place as the race goes.
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
        start=None,
        workers: int | None = None,
    ) -> None:
        self.config = config
        self._workers = workers or min(len(config.methods), os.cpu_count() or 1)
        train, self.held_out = load_splits(config.data if data is None else data)
        self.trained_on_held_out = train is self.held_out
        self.reference, self.tokenizer = start or load_model(config.model)
        self.reference.eval().requires_grad_(False)
        context = context_length(self.reference)
        tokenized = tokenize_pairs(train, self.tokenizer, context)
        probe = tokenize_pairs(self.held_out[: config.eval_pairs], self.tokenizer, context)

        self._schedule = batch_schedule(len(train), config)
        self._meters = Meters(self.reference, self.tokenizer, self.held_out, config.seed)
        self._train = ScoredPairs(self.reference, tokenized)
        self._probe = ScoredPairs(self.reference, probe).batch(range(len(probe)))
        self.models, self._trainers = {}, {}
        for method in config.methods:
            self.models[method] = copy.deepcopy(self.reference).requires_grad_(True)
            self._trainers[method] = Trainer(
                self.models[method],
                method,
                learning_rate=config.learning_rate,
                knobs={name: getattr(config, name) for name in KNOBS},
            )
        self.seconds = 0.0

    def events(self) -> Iterator[tuple[str, Event]]:
        """Run the race, yielding (method, event) for step 0, 1, ..., steps of every method.

        The methods train at the same time, one thread each, and wait for one another after every
        step. Stop iterating to stop the race; the models keep what they have learned.

        Raises:
            FloatingPointError: a method has diverged.
        """
        config = self.config
        with _torch_threads(config.threads), ThreadPoolExecutor(self._workers) as pool:
            for step in range(config.steps + 1):
                began = time.perf_counter()
                indices = self._schedule[step]
                batch = self._train.batch(indices)
                last = step == config.steps
                evaluate = last or step % config.eval_every == 0
                every = config.measure_every
                measure = every > 0 and (last or step % every == 0)

                def run(
                    trainer: Trainer, batch=batch, last=last, evaluate=evaluate, measure=measure
                ) -> Event:
                    slow = self._meters.read(trainer) if measure else {}
                    measured = trainer.evaluate(self._probe) if evaluate else {}
                    return {**trainer.step(batch, update=not last), **measured, **slow}

                events = list(pool.map(run, self._trainers.values()))
                self.seconds += time.perf_counter() - began
                shared = {
                    "epoch": step * len(indices) / len(self._train),
                    "time": self.seconds,
                }
                for method, event in zip(config.methods, events, strict=True):
                    yield method, {**event, **shared}

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


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Let each torch operation use `count` threads. More threads than cores, over all that
    trains at once, do not share the machine but fight over it, and take 10 times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C not tear what the first has caused to be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals never reach other threads
        return
    before = {name: signal.signal(name, signal.SIG_IGN) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@dataclass(frozen=True)
class RaceResult:
    """What a race leaves in memory.

    Attributes:
        config: its settings.
        events: every event, by method.
        summary: see `summarize`.
        models: the trained policies, by method.
        reference: the model they all started from.
        tokenizer: the tokenizer they share.
    """

    config: RaceConfig
    events: dict[str, list[Event]]
    summary: dict
    models: dict
    reference: object
    tokenizer: object


def race(
    data: str | Path | Iterable[dict] = "tone",
    *,
    out: str | Path | None = None,
    on_event: Callable[[str, Event], None] = lambda method, event: None,
    **settings,
) -> RaceResult:
    """Train several methods on the same pairs, from the same start, in the same order.

    Args:
        data: a toy set, a JSON-lines file, or rows, as `load_pairs` takes them.
        out: where to write the run folder; nothing is written if left out.
        on_event: called with (method, event) as they happen, for instance to draw them.
        **settings: fields of `RaceConfig`, such as methods, steps, beta, learning_rate, seed.

    Returns:
        The result. After KeyboardInterrupt or divergence it holds what was done until then, and
        its summary's `status` says "interrupted" or "diverged".

    Raises:
        InputError: the settings, the data or the model cannot be used; nothing was trained.
    """
    by_name = isinstance(data, (str, Path))
    config = RaceConfig(data=str(data) if by_name else "rows", **settings)
    if out is not None:
        RunFolder.check_free(out)
    contest = Race(config, data=None if by_name else data)
    folder = RunFolder.create(out, config.as_dict()) if out is not None else None
    events: dict[str, list[Event]] = {method: [] for method in config.methods}
    status, problem, win_rates = "finished", None, None
    try:
        for method, event in contest.events():
            events[method].append(event)
            if folder:
                folder.append(method, event)
            on_event(method, event)
        win_rates = contest.win_rates()
    except KeyboardInterrupt:
        status = "interrupted"
    except FloatingPointError as error:
        status, problem = "diverged", str(error)
    summary = {
        "status": status,
        "problem": problem,
        "trained_on_held_out": contest.trained_on_held_out,
        **summarize(config, events, win_rates),
    }
    if folder:
        with _uninterrupted():
            folder.write_summary(summary)
            for method, model in contest.models.items():
                folder.save_model(method, model, contest.tokenizer)
    return RaceResult(config, events, summary, contest.models, contest.reference, contest.tokenizer)


def summarize(
    config: RaceConfig, events: dict[str, list[Event]], win_rates: dict[str, float] | None
) -> dict:
    """The closing table as a dict.

    Returns:
        data, seed, and methods: for each method, from its last held-out measurement, steps,
        delta_chosen and delta_rejected (nats per completion against the reference), accuracy,
        margin (β·(u_w − u_l)), win_rate against the reference (None if unknown), and seconds.
    """

    def row(method: str) -> dict:
        measured = [event for event in events[method] if "eval_loss" in event]
        if not measured:
            return {"steps": 0}
        last = measured[-1]
        return {
            "steps": last["step"],
            "delta_chosen": last["eval_shift/chosen"],
            "delta_rejected": last["eval_shift/rejected"],
            "accuracy": last["eval_rewards/accuracies"],
            "margin": last["eval_rewards/margins"],
            "win_rate": None if win_rates is None else win_rates[method],
            "seconds": last["time"],
        }

    methods = {method: row(method) for method in config.methods}
    return {"data": config.data, "seed": config.seed, "methods": methods}
