"""What is swept: the sets of the README's table, and the AdaDPO paper in miniature."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.results import Row, read_measurements
from adadpo_mini.paper.sweep import PlannedRace, results_file, run_missing, sweep
from adadpo_mini.toyworld.sets import SETS

SEEDS = 5
LEARNING_RATES = (5e-5, 1e-4, 2e-4, 5e-4)
BETAS = (0.05, 0.1, 0.3, 1.0)
DATA = ("tone", "swap", "long_swap")
METHODS = ("dpo", "adadpo", "adadpo_policy", "fixed_ratio")
CEILINGS = (1.5, 2.0, 2.5, 3.0, 5.0, 10.0)  # 2 is the default, for form, k and floor as well
FORMS = ("adadpo_policy", "adadpo_raw")
KS = (0.5, 2.0)
FLOORS = (0.5, 1.0)
ABLATIONS = 2 * len(CEILINGS) + 1 + len(KS) + len(FLOORS)  # for each seed and set
# One run is short and narrow, so that 960 of them and the ablations fit into an hour.
SIZE = RaceConfig(steps=40, batch_size=8, eval_pairs=24, measure_every=0)
QUICK = replace(SIZE, steps=20, batch_size=4, eval_pairs=8)


def sets(seeds: int = SEEDS) -> list[PlannedRace]:
    """Every toy set at the default settings, with the control: the README's table."""
    methods = ("dpo", "adadpo", "fixed_ratio")
    return [
        PlannedRace("sets", RaceConfig(data=name, seed=seed, methods=methods, measure_every=0))
        for seed in range(seeds)
        for name in SETS
    ]


def grid(quick: bool = False) -> list[PlannedRace]:
    """Learning rate × β for all methods, as in the paper's 16 settings, on three sets."""
    size, seeds = (QUICK, 2) if quick else (SIZE, SEEDS)
    rates, betas = ((1e-4, 5e-4), (0.1, 1.0)) if quick else (LEARNING_RATES, BETAS)
    return [
        PlannedRace(
            "grid",
            replace(size, data=data, seed=seed, methods=METHODS, learning_rate=rate, beta=beta),
        )
        for seed in range(seeds)
        for data in (DATA[:1] if quick else DATA)
        for rate in rates
        for beta in betas
    ]


def ablations(rows: Sequence[Row], quick: bool = False) -> list[PlannedRace]:
    """Ceiling, form, k and floor, each at AdaDPO's best setting of the grid on that set.

    At its best AdaDPO may never reach the ceiling, and then the ceiling decides nothing. So it is
    varied once more at the default learning rate and β, where on some sets every pair reaches it.
    On seeds of their own, for on the grid's seeds the default would have the luck with which it won
    the setting.

    Args:
        rows: the grid's results, which decide on the setting.

    Raises:
        InputError: they have no LC win rate of AdaDPO on one of the sets.
    """
    size, seeds = (QUICK, 2) if quick else (SIZE, SEEDS)
    varied = [
        *(("ceiling", {"ceiling": value}) for value in CEILINGS),
        ("form", {"methods": FORMS}),
        *(("k", {"k": value}) for value in KS),
        *(("floor", {"floor": value}) for value in FLOORS),
    ]
    planned = []
    for data in DATA[:1] if quick else DATA:
        best = best_setting(rows, data, "adadpo")
        if best is None:
            raise InputError(f"the grid has no LC win rate of adadpo on {data}; run it anew.")
        rate, beta = best
        at_defaults = replace(size, data=data, methods=("adadpo",))
        at_best = replace(at_defaults, learning_rate=rate, beta=beta)
        planned += [
            PlannedRace(name, replace(base, seed=SEEDS + seed, **change))
            for seed in range(seeds)
            for name, base, change in (
                *((name, at_best, change) for name, change in varied),
                *(("ceiling_at_defaults", at_defaults, {"ceiling": c}) for c in CEILINGS),
            )
        ]
    return planned


def run_sets(out: Path, processes: int | None = None) -> Iterator[tuple[int, int]]:
    """Sweep `sets`, yielding (races done, races in all); raises what `sweep` does."""
    planned = sets()
    for done in sweep(planned, out, processes):
        yield done, len(planned)


def run_paper(
    out: Path, quick: bool = False, processes: int | None = None
) -> Iterator[tuple[int, int]]:
    """Sweep the grid and then the ablations at its best settings, yielding (done, in all).

    Raises:
        InputError, WriteError: see `sweep`.
    """
    first = grid(quick)
    in_all = len(first) + ABLATIONS * (2 if quick else SEEDS) * (1 if quick else len(DATA))
    with results_file(out):
        for done in run_missing(first, out, processes):
            yield done, in_all
        for done in run_missing(ablations(read_measurements(out), quick), out, processes):
            yield len(first) + done, in_all
