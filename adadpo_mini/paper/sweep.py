"""Many races, one process a core, into one tidy file; killed, it goes on where it stopped."""

import math
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.lockstep import Race
from adadpo_mini.measure import sampled_kl
from adadpo_mini.measure.answers import probe_answers, probe_prompts
from adadpo_mini.models.load import load_model
from adadpo_mini.paper.results import (
    KNOBS,
    Row,
    append_rows,
    check_is_results,
    drop_runs,
    finished_runs,
    mend,
    run_of,
)
from adadpo_mini.system.files import check_can_write, locked
from adadpo_mini.tokens.templates import encode_prompts
from adadpo_mini.toyworld.judge import compare
from adadpo_mini.toyworld.sets import SETS

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
    """A race of an experiment; the experiment's name keeps its rows apart in the file.

    Raises:
        InputError: its data is no toy set, so that there is no judge for its answers.
    """

    experiment: str
    config: RaceConfig

    def __post_init__(self) -> None:
        if self.config.data not in SETS:
            raise InputError(f"a sweep is over {', '.join(SETS)}, not {self.config.data!r}.")

    def keys(self) -> list[tuple]:
        """For each of its methods, what is in the file's columns RUN once it is done."""
        return [run_of(_run_columns(self, method)) for method in self.methods]

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
    config = replace(planned.config, threads=1)
    race = Race(config, start=_start(config.model), workers=1)
    rows = []
    try:
        for method, event in race.events():
            last = event["step"] == planned.config.steps
            if "eval_loss" in event and (last or event["step"] % ROWS_EVERY == 0):
                rows.append(_row(planned, method, event))
    except FloatingPointError as error:
        raise InputError(f"{planned.config.data}, seed {planned.config.seed}: {error}") from error
    closing = {method: _judged(race, method) for method in planned.methods}
    for row in rows:
        if row["step"] == planned.config.steps:
            row.update(closing[row["method"]])
    return rows


def _row(planned: PlannedRace, method: str, event: Event) -> dict:
    measured = {column: _rounded(event[name]) for column, name in COLUMN_OF.items()}
    return {**_run_columns(planned, method), "step": event["step"], **measured}


def _judged(race: Race, method: str) -> dict[str, float | None]:
    """KL to the reference and the judge's word, from answers to held-out prompts."""
    prompts = probe_prompts(race.held_out, race.config.eval_pairs)
    kl = sampled_kl(
        race.models[method],
        race.reference,
        encode_prompts(prompts[:16], race.tokenizer),
        race.tokenizer.eos_token_id,
        seed=race.config.seed,
    )
    answers, rivals = (
        probe_answers(model, race.tokenizer, prompts, race.config.seed)
        for model in (race.models[method], race.reference)
    )
    lengths = [
        [len(ids) + 1 for ids in race.tokenizer(texts)["input_ids"]] for texts in (answers, rivals)
    ]
    outcome = compare(prompts, answers, rivals, tuple(lengths))
    values = {
        "kl": kl.kl,
        "win_rate": outcome.win_rate,
        "lc_win_rate": outcome.lc_win_rate,
        "length": outcome.mean_length,
        "reference_length": outcome.rival_mean_length,
    }
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: float) -> float | None:
    """None for what is no number: an empty cell."""
    return round(value, 6) if math.isfinite(value) else None


@contextmanager
def results_file(out: Path) -> Iterator[None]:
    """Hold a sweep's file for this process alone, in a state to add rows to.

    Raises:
        InputError: it holds something else, which is left as it is, or another sweep is writing to
            it. WriteError: nothing can be written there.
    """
    target = Path(os.path.realpath(out))
    check_is_results(target)
    check_can_write(target)
    refusal = f"{out}: another sweep is writing to it; wait until it ends, or give another file."
    with locked(target.with_name(f".{target.name}.lock"), refusal):
        mend(target)
        yield


def sweep(planned: Sequence[PlannedRace], out: Path, processes: int | None = None) -> Iterator[int]:
    """Run the races that `out` does not hold yet, appending each one's rows as it ends.

    Args:
        processes: races at a time; as many as there are cores if left out.

    Yields:
        The number of races done, after each.

    Raises:
        InputError: see `results_file`, or a race cannot be run. WriteError: the rows of a race
            cannot be written. The rows of the races before are in the file, whatever happens.
    """
    with results_file(out):
        yield from run_missing(planned, out, processes)


def run_missing(
    planned: Sequence[PlannedRace], out: Path, processes: int | None = None
) -> Iterator[int]:
    """`sweep`, for who holds the file already."""
    if processes is not None and processes < 1:
        raise InputError(f"processes must be a whole number from 1 up, not {processes}.")
    if find_spec("statsmodels") is None:  # told now, not when the first race is judged
        raise InputError("a sweep needs statsmodels for its judge: pip install statsmodels.")
    done = finished_runs(out) if out.exists() else set()
    todo = [race for race in planned if not done.issuperset(race.keys())]
    if out.exists():
        drop_runs(out, {key for race in todo for key in race.keys()})  # noqa: SIM118 (no dict)
    finished = len(planned) - len(todo)
    yield finished
    with closing(_in_processes(todo, processes or os.cpu_count() or 1)) as results:
        for rows in results:
            append_rows(out, rows)
            finished += 1
            yield finished


def _in_processes(races: Sequence[PlannedRace], count: int) -> Iterator[list[Row]]:
    """The rows of each race as it ends, run by `count` processes that end with this generator."""
    waiting = list(reversed(races))
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(count, len(races))):
            connection, process = _new_worker()
            workers[connection] = process
            connection.send(waiting.pop())
        while workers:
            for connection in wait(list(workers)):
                yield _answer(connection)
                if waiting:
                    connection.send(waiting.pop())
                else:
                    _end(workers.pop(connection))
    except (EOFError, OSError) as error:
        raise InputError(
            "a process that ran races was ended, or could not be started, perhaps for want of "
            "memory; start the sweep again, with fewer --processes if need be: it goes on from "
            "here."
        ) from error
    finally:
        for process in workers.values():
            _end(process)


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _new_worker() -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    with _ctrl_c_is_ours():
        process.start()
    theirs.close()  # so that its end is noticed
    return ours, process


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """What is started in here does not hear of Ctrl-C, from its first instruction on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which would unblock it, were it started in between
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(connection: Connection) -> list[Row]:
    answer = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer


def _work(connection: Connection) -> None:
    """What a worker process does: run the races that come, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows has no way to say so before
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # there is nobody left to answer to
        while True:
            connection.send(_outcome(connection.recv()))


def _outcome(planned: PlannedRace) -> list[Row] | Exception:
    try:
        return run_race(planned)
    except InputError as error:
        return error
    except Exception:
        return RuntimeError(f"a race failed in its process:\n{traceback.format_exc()}")


def _end_with_parent() -> None:
    """Without this, who kills a sweep leaves its workers behind, each in the middle of a race."""
    multiprocessing.parent_process().join()
    os._exit(1)
