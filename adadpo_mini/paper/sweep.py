"""Many races, one process per core, into one tidy file.

A killed sweep continues where it stopped.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.paper.planned import PlannedRace, run_race
from adadpo_mini.paper.results import finished_runs
from adadpo_mini.paper.results_writer import append_rows, check_is_results, drop_runs, mend
from adadpo_mini.paper.workers import in_processes
from adadpo_mini.system.files import check_can_write, locked


def sweep(planned: Sequence[PlannedRace], out: Path, processes: int | None = None) -> Iterator[int]:
    """Run the races that `out` does not have yet, appending each one's rows as it ends.

    Args:
        processes: the number of races at a time; the default is the number of cores.

    Yields:
        The number of races done, after each.

    Raises:
        InputError: see `results_file`, or a race cannot be run. WriteError: the rows of a race
            cannot be written. In any case the file keeps the rows of the races before.
    """
    with results_file(out):
        yield from run_missing(planned, out, processes)


@contextmanager
def results_file(out: Path) -> Iterator[None]:
    """Hold a sweep's file for this process alone, ready for more rows.

    Raises:
        InputError: the file is something else (it is left unchanged), or another sweep is writing
            to it. WriteError: nothing can be written there.
    """
    target = Path(os.path.realpath(out))
    check_is_results(target)
    check_can_write(target)
    refusal = f"{out}: another sweep is writing to it; wait until it ends, or give another file."
    with locked(target.with_name(f".{target.name}.lock"), refusal):
        mend(target)
        yield


def run_missing(
    planned: Sequence[PlannedRace], out: Path, processes: int | None = None
) -> Iterator[int]:
    """Run the missing races as `sweep` does, inside `results_file`."""
    if processes is not None and processes < 1:
        raise InputError(f"processes must be a whole number from 1 up, not {processes}.")
    done = finished_runs(out) if out.exists() else set()
    todo = [race for race in planned if not done.issuperset(race.keys())]
    if out.exists():
        drop_runs(out, {key for race in todo for key in race.keys()})  # noqa: SIM118 (no dict)
    finished = len(planned) - len(todo)
    yield finished
    with closing(in_processes(run_race, todo, processes or os.cpu_count() or 1)) as results:
        for rows in results:
            append_rows(out, rows)
            finished += 1
            yield finished
