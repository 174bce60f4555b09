"""One race of a sweep: what it runs, and the rows it yields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.lockstep import Race
from adadpo_mini.measure import sampled_kl
from adadpo_mini.measure.answers import probe_answers, probe_prompts
from adadpo_mini.models.load import load_model
from adadpo_mini.paper.results import KNOBS, Row, run_of
from adadpo_mini.tokens.templates import encode_prompts
from adadpo_mini.toyworld.judge import Comparison, compare
from adadpo_mini.toyworld.sets import SETS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROWS_EVERY = 10  # steps between two rows of a run
KL_PROMPTS = 16
COLUMN_OF = {
    "shift_chosen": "eval_shift/chosen",
    "shift_rejected": "eval_shift/rejected",
    "accuracy": "eval_rewards/accuracies",
    "margin": "eval_rewards/margins",
    "rho": "eval_ada/rho",
    "ceiling_share": "eval_ada/ceiling_share",
}
"""The event's name for each column that is measured along the way."""


@dataclass(frozen=True)
class PlannedRace:
    """A race of an experiment; the experiment's name keeps its rows apart in the file.

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
    race = Race(replace(config, threads=1), start=_start(config.model), workers=1)
    rows = []
    try:
        for method, event in race.events():
            last = event["step"] == config.steps
            if "eval_loss" in event and (last or event["step"] % ROWS_EVERY == 0):
                rows.append(_row(planned, method, event))
    except FloatingPointError as error:
        raise InputError(f"{config.data}, seed {config.seed}: {error}") from error
    closing = {method: _judged(race, method) for method in config.methods}
    for row in rows:
        if row["step"] == config.steps:
            row.update(closing[row["method"]])
    return rows


@lru_cache(maxsize=2)
def _start(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch

    torch.set_num_threads(1)
    return load_model(name)


def _row(planned: PlannedRace, method: str, event: Event) -> dict:
    measured = {column: _rounded(event[name]) for column, name in COLUMN_OF.items()}
    return {**_run_columns(planned, method), "step": event["step"], **measured}


def _judged(race: Race, method: str) -> dict[str, float | None]:
    """Return KL to the reference and the judge's win rates, from answers to held-out prompts."""
    prompts = probe_prompts(race.held_out, race.config.eval_pairs)
    kl = sampled_kl(
        race.models[method],
        race.reference,
        encode_prompts(prompts[:KL_PROMPTS], race.tokenizer),
        race.tokenizer.eos_token_id,
        seed=race.config.seed,
    )
    outcome = _compared(race, method, prompts)
    values = {
        "kl": kl.kl,
        "win_rate": outcome.win_rate,
        "lc_win_rate": outcome.lc_win_rate,
        "length": outcome.mean_length,
        "reference_length": outcome.rival_mean_length,
    }
    return {name: _rounded(value) for name, value in values.items()}


def _compared(race: Race, method: str, prompts: Sequence[str]) -> Comparison:
    """Compare a method's answers with the reference's; lengths in tokens, end token included."""
    answers, rivals = (
        probe_answers(model, race.tokenizer, prompts, race.config.seed)
        for model in (race.models[method], race.reference)
    )
    lengths = [
        [len(ids) + 1 for ids in race.tokenizer(texts)["input_ids"]] for texts in (answers, rivals)
    ]
    return compare(prompts, answers, rivals, tuple(lengths))


def _rounded(value: float) -> float | None:
    """Return None for NaN and infinity, which become an empty cell."""
    return round(value, 6) if math.isfinite(value) else None
