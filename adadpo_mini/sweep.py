"""Many races, one process a core, into one tidy file; killed, it goes on where it stopped."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from adadpo_mini.contest import Race
from adadpo_mini.errors import InputError
from adadpo_mini.judge import compare
from adadpo_mini.mass import sampled_kl
from adadpo_mini.models import load_model
from adadpo_mini.results import (
    KNOBS,
    RUN,
    Row,
    append_rows,
    drop_torn_end,
    read_measurements,
)
from adadpo_mini.settings import RaceConfig
from adadpo_mini.templates import encode_prompts
from adadpo_mini.trainer import Event

ROWS_EVERY = 10  # steps between two rows of a run
COLUMN_OF = {
    "shift_chosen": "eval_shift/chosen",
    "shift_rejected": "eval_shift/rejected",
    "accuracy": "eval_rewards/accuracies",
    "margin": "eval_rewards/margins",
    "rho": "eval_ada/rho",
    "ceiling_share": "eval_ada/ceiling_share",
}


@dataclass(frozen=True)
class PlannedRace:
    """A race of an experiment; the experiment's name keeps its rows apart in the file."""

    experiment: str
    config: RaceConfig

    def keys(self) -> list[tuple]:
        """For each of its methods, what is in the file's columns RUN once it is done."""
        return [tuple(_run_columns(self, method)[name] for name in RUN) for method in self.methods]

    @property
    def methods(self) -> tuple[str, ...]:
        return self.config.methods


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


@lru_cache(maxsize=2)
def _start(name: str) -> tuple:
    import torch

    torch.set_num_threads(1)
    return load_model(name)


def run_race(planned: PlannedRace) -> list[Row]:
    """Run one race on one thread; returns the rows of all its methods.

    A method that diverges makes a run without rows after that, and without a judgement.
    """
    contest = Race(planned.config, start=_start(planned.config.model), workers=1)
    rows = []
    try:
        for method, event in contest.events():
            last = event["step"] == planned.config.steps
            if "eval_loss" in event and (last or event["step"] % ROWS_EVERY == 0):
                rows.append(_row(planned, method, event))
    except FloatingPointError as error:
        raise InputError(f"{planned.config.data}, seed {planned.config.seed}: {error}") from error
    closing = {method: _judged(contest, method) for method in planned.methods}
    for row in rows:
        if row["step"] == planned.config.steps:
            row.update(closing[row["method"]])
    return rows


def _row(planned: PlannedRace, method: str, event: Event) -> dict:
    measured = {column: round(event[name], 6) for column, name in COLUMN_OF.items()}
    return {**_run_columns(planned, method), "step": event["step"], **measured}


def _judged(contest: Race, method: str) -> dict[str, float]:
    """KL to the reference and the judge's word, from answers to held-out prompts."""
    prompts = contest.probe_prompts
    kl = sampled_kl(
        contest.models[method],
        contest.reference,
        encode_prompts(prompts[:16], contest.tokenizer),
        contest.tokenizer.eos_token_id,
        seed=contest.config.seed,
    )
    answers, rivals = contest.answers(method), contest.answers("reference")
    lengths = [
        [len(ids) + 1 for ids in contest.tokenizer(texts)["input_ids"]]
        for texts in (answers, rivals)
    ]
    outcome = compare(prompts, answers, rivals, tuple(lengths))
    values = {
        "kl": kl.kl,
        "win_rate": outcome.win_rate,
        "lc_win_rate": outcome.lc_win_rate,
        "length": outcome.mean_length,
        "reference_length": outcome.rival_mean_length,
    }
    return {name: round(value, 6) for name, value in values.items()}


def sweep(planned: Sequence[PlannedRace], out: Path, processes: int | None = None) -> Iterator[int]:
    """Run the races that `out` does not hold yet, appending each one's rows as it ends.

    Yields:
        The number of races done, after each.
    """
    drop_torn_end(out)
    done = _finished(out)
    todo = [race for race in planned if not done.issuperset(race.keys())]
    finished = len(planned) - len(todo)
    yield finished
    # Leaving the pool, by whatever way, ends its processes: none trains on unseen.
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        for rows in pool.imap_unordered(run_race, todo):
            append_rows(out, rows)
            finished += 1
            yield finished


def _finished(out: Path) -> set[tuple]:
    if not out.is_file() or not out.stat().st_size:
        return set()
    rows = read_measurements(out)
    return {tuple(row[name] for name in RUN) for row in rows if row["step"] == row["steps"]}
