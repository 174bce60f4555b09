"""What is swept: every toy set at the defaults, and the AdaDPO paper in miniature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.planned import PlannedRace
from adadpo_mini.paper.results import Row, read_measurements
from adadpo_mini.paper.sweep import results_file, run_missing, sweep
from adadpo_mini.toyworld.sets import SETS

SEEDS = 5
METHODS = ("dpo", "adadpo", "adadpo_policy", "fixed_ratio")
FORMS = ("adadpo_policy", "adadpo_raw")


@dataclass(frozen=True)
class Plan:
    """The paper in miniature: a grid for all methods, and ablations of AdaDPO.

    Attributes:
        size: of every race; one is short and narrow, so that the whole plan fits into an hour.
        seeds: the number of seeds, of the grid and of the ablations.
        data: the data sets.
        learning_rates, betas: the grid, all combinations of both.
        ceilings, ks, floors: the values that the ablations try.
    """

    size: RaceConfig
    seeds: int
    data: tuple[str, ...]
    learning_rates: tuple[float, ...]
    betas: tuple[float, ...]
    ceilings: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 5.0, 10.0)  # 2 is the default of the others
    ks: tuple[float, ...] = (0.5, 2.0)
    floors: tuple[float, ...] = (0.5, 1.0)

    @property
    def grid_races(self) -> int:
        """The number of races of the grid."""
        return self.seeds * len(self.data) * len(self.learning_rates) * len(self.betas)

    @property
    def ablation_races(self) -> int:
        """The number of races of all ablations: every ceiling twice, and one for the forms."""
        of_one_seed = 2 * len(self.ceilings) + 1 + len(self.ks) + len(self.floors)
        return self.seeds * len(self.data) * of_one_seed


PAPER = Plan(
    size=RaceConfig(steps=40, batch_size=8, eval_pairs=24, measure_every=0),
    seeds=SEEDS,
    data=("tone", "swap", "long_swap"),
    learning_rates=(5e-5, 1e-4, 2e-4, 5e-4),
    betas=(0.05, 0.1, 0.3, 1.0),
)
QUICK = Plan(
    size=replace(PAPER.size, steps=20, batch_size=4, eval_pairs=8),
    seeds=2,
    data=("tone",),
    learning_rates=(1e-4, 5e-4),
    betas=(0.1, 1.0),
)


def sets(seeds: int = SEEDS) -> list[PlannedRace]:
    """Return the races of every toy set at the defaults, with the fixed ratio as a control."""
    methods = ("dpo", "adadpo", "fixed_ratio")
    return [
        PlannedRace("sets", RaceConfig(data=name, seed=seed, methods=methods, measure_every=0))
        for seed in range(seeds)
        for name in SETS
    ]


def grid(plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races of all methods over learning rate × β, the paper's 16 settings."""
    return [
        PlannedRace(
            "grid",
            replace(
                plan.size, data=data, seed=seed, methods=METHODS, learning_rate=rate, beta=beta
            ),
        )
        for seed in range(plan.seeds)
        for data in plan.data
        for rate in plan.learning_rates
        for beta in plan.betas
    ]


def ablations(rows: Sequence[Row], plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races that vary ceiling, form, k and floor, at AdaDPO's best setting on each set.

    At its best setting AdaDPO may never reach the ceiling, and then the ceiling decides nothing. So
    it is also varied at the default learning rate and β, where on some sets every pair reaches it.
    The seeds are not the grid's: on those, the default would benefit from the luck that selected
    the setting.

    Args:
        rows: the grid's results, which decide the setting.

    Raises:
        InputError: the results have no LC win rate of AdaDPO on one of the sets.
    """
    planned = []
    for data in plan.data:
        bases = _bases(rows, plan, data)
        planned += [
            PlannedRace(experiment, replace(bases[where], seed=SEEDS + seed, **change))
            for seed in range(plan.seeds)
            for experiment, where, change in _varied(plan)
        ]
    return planned


def _bases(rows: Sequence[Row], plan: Plan, data: str) -> dict[str, RaceConfig]:
    """Return AdaDPO's race at its best setting on a data set, and at the default one."""
    best = best_setting(rows, data, "adadpo")
    if best is None:
        raise InputError(f"the grid has no LC win rate of adadpo on {data}; run it again.")
    at_defaults = replace(plan.size, data=data, methods=("adadpo",))
    rate, beta = best
    return {"best": replace(at_defaults, learning_rate=rate, beta=beta), "defaults": at_defaults}


def _varied(plan: Plan) -> list[tuple[str, str, dict]]:
    """Return (experiment, where, change) of each race of one seed."""
    return [
        *(("ceiling", "best", {"ceiling": value}) for value in plan.ceilings),
        ("form", "best", {"methods": FORMS}),
        *(("k", "best", {"k": value}) for value in plan.ks),
        *(("floor", "best", {"floor": value}) for value in plan.floors),
        *(("ceiling_at_defaults", "defaults", {"ceiling": value}) for value in plan.ceilings),
    ]


def run_sets(out: Path, processes: int | None = None) -> Iterator[tuple[int, int]]:
    """Sweep `sets`, yielding (races done, all races); raises what `sweep` raises."""
    planned = sets()
    for done in sweep(planned, out, processes):
        yield done, len(planned)


def run_paper(
    out: Path, plan: Plan = PAPER, processes: int | None = None
) -> Iterator[tuple[int, int]]:
    """Sweep the grid and then the ablations at its best settings.

    Yields:
        (races done, all races).

    Raises:
        InputError, WriteError: see `sweep`.
    """
    in_all = plan.grid_races + plan.ablation_races
    with results_file(out):
        for done in run_missing(grid(plan), out, processes):
            yield done, in_all
        for done in run_missing(ablations(read_measurements(out), plan), out, processes):
            yield plan.grid_races + done, in_all
