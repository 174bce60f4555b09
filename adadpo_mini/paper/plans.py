"""The plans of `adadpo-mini sweep`: which experiments make one file, in which order."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adadpo_mini.paper.experiments import (
    PAPER,
    QUICK,
    Plan,
    ablations,
    arcs,
    betas,
    controls,
    grid,
    matched,
    matched_sets,
    sets,
)
from adadpo_mini.paper.planned import PlannedRace
from adadpo_mini.paper.results import Row, read_measurements
from adadpo_mini.paper.sweep import results_file, run_missing


@dataclass(frozen=True)
class Stages:
    """A plan in stages: what a stage runs may depend on the results of those before it.

    Attributes:
        about: what it is, for the help.
        first: returns the races of the first stage.
        rest: each takes the results so far, and returns the races of its stage.
    """

    about: str
    first: Callable[[], list[PlannedRace]]
    rest: Sequence[Callable[[Sequence[Row]], list[PlannedRace]]] = ()


def paper_stages(plan: Plan, about: str = "the AdaDPO paper in miniature") -> Stages:
    """Return the stages of a `Plan`: the grid, the controls, what follows from them, ablations."""
    rest = [partial(stage, plan=plan) for stage in (controls, matched, ablations)]
    return Stages(about, partial(grid, plan), rest)


PLANS: dict[str, Stages] = {
    "paper": paper_stages(PAPER),
    "sets": Stages("every toy set at the defaults", sets, [matched_sets]),
    "beta": Stages("the default race over β", betas),
    "arcs": Stages("the races that the package shows first, judged on the way", arcs),
    "quick": paper_stages(QUICK, "a small part of paper, in minutes"),
}


def run_plan(stages: Stages, out: Path, processes: int | None = None) -> Iterator[tuple[int, int]]:
    """Run a plan's missing races, stage by stage, into a file.

    Yields:
        (races done, races of this stage and those before it). How many follow is not known yet:
        the results decide what the next stage runs.

    Raises:
        InputError, WriteError: see `sweep.sweep`.
    """
    before = 0
    with results_file(out):
        for number, stage in enumerate((stages.first, *stages.rest)):
            planned = stage(read_measurements(out)) if number else stage()
            for done in run_missing(planned, out, processes):
                yield before + done, before + len(planned)
            before += len(planned)
