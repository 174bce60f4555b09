"""One race of a sweep: what it runs, and the rows it yields."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.lockstep import Race
from adadpo_mini.measure import sampled_kl
from adadpo_mini.measure.answers import TEMPERATURES, probe_answers, probe_prompts
from adadpo_mini.models.load import load_model
from adadpo_mini.paper.results import KNOBS, Row, run_of
from adadpo_mini.tokens.templates import encode_prompts
from adadpo_mini.toyworld.judge import compare, outcomes, perfect_win_rate
from adadpo_mini.toyworld.sets import SETS
from adadpo_mini.trainer import MethodTrainer
from adadpo_mini.types import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_EVERY = 20  # steps between two rows of a run
KL_PROMPTS = 16
COLUMN_OF = {
    "shift_chosen": "eval_shift/chosen",
    "shift_rejected": "eval_shift/rejected",
    "accuracy": "eval_rewards/accuracies",
    "ranking_accuracy": "eval_ranking_accuracy",
    "margin": "eval_rewards/margins",
    "rho": "eval_ada/rho",
    "ceiling_share": "eval_ada/ceiling_share",
}
"""The event's name for each column that is measured along the way."""


@dataclass(frozen=True)
class PlannedRace:
    """A race of an experiment; the experiment's name keeps its rows apart in the file.

    The race evaluates on `eval_pairs` held-out pairs, and judges answers to as many prompts, at the
    end and every `measure_every` steps; never if that is 0.

    Raises:
        InputError: the data is not a toy set, so there is no judge for the answers.
    """

    experiment: str
    config: RaceConfig

    def __post_init__(self) -> None:
        if self.config.data not in SETS:
            raise InputError(f"a sweep is over {', '.join(SETS)}, not {self.config.data!r}.")

    def keys(self) -> list[tuple]:
        """For each method, the columns RUN of its rows."""
        return [run_of(_run_columns(self, method)) for method in self.config.methods]


def _run_columns(planned: PlannedRace, method: str) -> Row:
    config = planned.config
    settings = {name: getattr(config, name) for name in KNOBS}
    return {
        "experiment": planned.experiment,
        "data": config.data,
        "method": method,
        "seed": config.seed,
        "steps": config.steps,
        "batch_size": config.batch_size,
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        **settings,
    }


def run_race(planned: PlannedRace) -> list[Row]:
    """Run one race on one thread; return the rows of all its methods.

    Raises:
        InputError: the race cannot be run, or one of its methods diverges.
    """
    config = planned.config
    race = _JudgedRace(replace(config, threads=1), start=_start(config.model), workers=1)
    rows: list[dict] = []
    ratios: dict[str, list[float]] = {method: [] for method in config.methods}
    try:
        for method, event in race.events():
            if event["step"] < config.steps:
                ratios[method].append(event["ada/rho"])
            if "eval_loss" in event:
                rows.append(_row(planned, method, event))
    except FloatingPointError as error:
        raise InputError(f"{config.data}, seed {config.seed}: {error}") from error
    for row in rows:
        if row["step"] == config.steps:
            row["mean_rho"] = _rounded(fmean(ratios[row["method"]]))
    return rows


@lru_cache(maxsize=2)
def _start(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch

    torch.set_num_threads(1)
    return load_model(name)


def _row(planned: PlannedRace, method: str, event: Event) -> dict:
    measured = {column: event[name] for column, name in COLUMN_OF.items()}
    judged = {column: event[column] for column in _JUDGED if column in event}
    values = {name: _rounded(value) for name, value in {**measured, **judged}.items()}
    return {**_run_columns(planned, method), "step": event["step"], **values}


_JUDGED = (
    "kl", "prompts", "win_rate", "lc_win_rate", "ties", "win_rate_at_1", "lc_win_rate_at_1",
    "perfect_win_rate", "length", "reference_length",
)  # fmt: skip


class _JudgedRace(Race):
    """A race that evaluates rarely, and whose slow measurement is the judge's."""

    def evaluates_at(self, step: int) -> bool:
        """Return whether a row is due."""
        every = self.config.measure_every or self.config.steps
        return step == self.config.steps or step % ROWS_EVERY == 0 or step % every == 0

    def measure(self, trainer: MethodTrainer, *, untrained: bool = False) -> Event:
        """Return KL to the reference and the judge's win rates, as columns of a row."""
        if untrained:
            return {}
        tokenizer, seed = self.tokenizer, self.config.seed
        asked = encode_prompts(self._prompts[:KL_PROMPTS], tokenizer)
        end = tokenizer.eos_token_id
        kl = sampled_kl(trainer.model, self.reference, asked, end, seed=seed).kl
        return {"kl": kl, "prompts": len(self._prompts), **self._judged(trainer.model)}

    @cached_property
    def _prompts(self) -> list[str]:
        return probe_prompts(self.held_out, self.config.eval_pairs)

    @cached_property
    def _rivals(self) -> dict[float, list[str]]:
        return self._answers(self.reference)

    def _answers(self, model: Model) -> dict[float, list[str]]:
        asked = (model, self.tokenizer, self._prompts, self.config.seed)
        return {temperature: probe_answers(*asked, temperature) for temperature in TEMPERATURES}

    def _judged(self, model: Model) -> dict[str, float]:
        prompts, answers, rivals = self._prompts, self._answers(model), self._rivals
        sides = ((t, answers[t], rivals[t]) for t in TEMPERATURES)
        chat, plain = (compare(prompts, a, b, self._lengths(a, b)) for _, a, b in sides)
        points = outcomes(prompts, answers[TEMPERATURES[0]], rivals[TEMPERATURES[0]])
        return {
            "win_rate": chat.win_rate,
            "lc_win_rate": chat.lc_win_rate,
            "ties": points.count(0.5) / len(points),
            "win_rate_at_1": plain.win_rate,
            "lc_win_rate_at_1": plain.lc_win_rate,
            "perfect_win_rate": perfect_win_rate(prompts, rivals[TEMPERATURES[0]]),
            "length": chat.mean_length,
            "reference_length": chat.rival_mean_length,
        }

    def _lengths(self, *sides: list[str]) -> tuple[list[int], ...]:
        """Return the lengths of answers in tokens, end token included."""
        return tuple([len(ids) + 1 for ids in self.tokenizer(s)["input_ids"]] for s in sides)


def _rounded(value: float) -> float | None:
    """Return None for NaN and infinity, which become an empty cell."""
    return round(value, 6) if math.isfinite(value) else None
