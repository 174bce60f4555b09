"""What is swept, experiment by experiment. `plans.py` says which of them make one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.planned import PlannedRace
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.toyworld.sets import SETS

SEEDS = 5
SPACES = {"": "adadpo", "_policy": "adadpo_policy"}
"""AdaDPO in ratio and in policy space, by the end of an experiment's name."""
LARGER_DOSE = 2.0  # what `fixed_ratio` weighs the chosen side with, and AdaDPO is scaled to
HIGH_CEILING = 10.0
PROMPTS = 100


@dataclass(frozen=True)
class Plan:
    """The paper in miniature: a grid, the controls, and ablations of AdaDPO.

    Attributes:
        size: of every race; one is short and narrow, so that the whole plan fits into an hour.
        seeds: the number of seeds of the grid.
        control_seeds: the number of seeds of the controls and ablations.
        data: the data sets.
        learning_rates, betas: the grid, all combinations of both.
        too_hard: the learning rate and β of a setting at which DPO breaks the model.
        ceilings, ks: the values that the ablations try.
    """

    size: RaceConfig
    seeds: int
    control_seeds: int
    data: tuple[str, ...]
    learning_rates: tuple[float, ...]
    betas: tuple[float, ...]
    too_hard: tuple[float, float]
    ceilings: tuple[float, ...] = (1.5, 3.0, 5.0, 10.0)  # and 2, the default of all others
    ks: tuple[float, ...] = (0.5, 2.0)


PAPER = Plan(
    size=RaceConfig(steps=40, batch_size=8, eval_pairs=PROMPTS, measure_every=40),
    seeds=3,
    control_seeds=4,
    data=("tone", "near_duplicate", "swap"),
    learning_rates=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    betas=(0.03, 0.1, 0.3, 1.0),
    too_hard=(3e-4, 0.1),
)
QUICK = Plan(
    size=replace(PAPER.size, steps=20, batch_size=4, eval_pairs=16, measure_every=20),
    seeds=2,
    control_seeds=2,
    data=("tone",),
    learning_rates=(1e-4, 3e-4),
    betas=(0.1, 1.0),
    too_hard=(3e-4, 0.1),
    ceilings=(10.0,),
    ks=(2.0,),
)


def grid(plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races of DPO and AdaDPO over learning rate × β; the paper has 16 settings."""
    methods = ("dpo", *SPACES.values())
    return [
        PlannedRace("grid", _at(plan, data, (rate, beta), seed, methods=methods))
        for seed in range(plan.seeds)
        for data in plan.data
        for rate in plan.learning_rates
        for beta in plan.betas
    ]


def controls(rows: Sequence[Row], plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races of AdaDPO and its controls, at DPO's best setting and at one too hard.

    The seeds are not the grid's: on those, DPO would benefit from the luck that chose the setting.
    DPO is judged every quarter of the race, to find its best step.

    Args:
        rows: the grid's results, which decide the setting.

    Raises:
        InputError: the results have no LC win rate of DPO on one of the sets.
    """
    alike = ("adadpo_batch", "rpo", "dpo_matched_norm", "fixed_ratio")
    quarter = max(1, plan.size.steps // 4)
    return [
        PlannedRace(f"controls{end}", replace(base, **change))
        for base in _control_bases(rows, plan)
        for end, change in (
            ("", {"methods": ("dpo",), "measure_every": quarter}),
            ("", {"methods": (*SPACES.values(), *alike), "ratio": LARGER_DOSE}),
            ("_policy", {"methods": ("adadpo_batch",), "space": "policy"}),
            ("_policy", {"methods": ("dpo_matched_norm",), "space": "policy"}),
        )
    ]


def matched(rows: Sequence[Row], plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races whose knobs follow from AdaDPO's own mean ρ in `controls`, in each space.

    `matched`: a constant equal to that mean. `scaled`: AdaDPO scaled, with k, to a mean of about
    2, under a ceiling of 10.

    Raises:
        InputError: the results lack a run of `controls`.
    """
    planned = []
    for base in _control_bases(rows, plan):
        for end, method in SPACES.items():
            mean = mean_rho(rows, "controls", base, method)
            scale = {"k": round(LARGER_DOSE / mean, 4), "ceiling": HIGH_CEILING}
            planned += [
                matched_race(f"matched{end}", base, mean),
                PlannedRace(f"scaled{end}", replace(base, methods=(method,), **scale)),
            ]
    return planned


def matched_race(experiment: str, base: RaceConfig, mean: float) -> PlannedRace:
    """Return the race of the constant that equals AdaDPO's mean ρ."""
    return PlannedRace(experiment, replace(base, methods=("fixed_ratio",), ratio=round(mean, 4)))


def mean_rho(rows: Sequence[Row], experiment: str, config: RaceConfig, method: str) -> float:
    """Return the mean ρ of a method's run at a race's data, setting and seed.

    Raises:
        InputError: the results lack this run.
    """
    columns = ("data", "learning_rate", "beta", "seed")
    where = tuple(getattr(config, name) for name in columns)
    for row in closing_rows(rows, experiment, method):
        if tuple(row[name] for name in columns) == where and row["mean_rho"] is not None:
            return row["mean_rho"]
    raise InputError(f"the results have no mean_rho of {method} on {where}; run it again.")


def ablations(rows: Sequence[Row], plan: Plan = PAPER) -> list[PlannedRace]:
    """Return the races that vary ceiling, form and k of AdaDPO on the seeds of `controls`.

    They are at AdaDPO's best setting on each set. There it may never reach the ceiling, and then
    the ceiling decides nothing; so it is varied at the setting that is too hard, too, where on some
    sets every pair reaches it. AdaDPO with its default ceiling is part of it, unless `controls` has
    that run.

    Raises:
        InputError: the results have no LC win rate of AdaDPO on one of the sets.
    """
    have = {(race.config.data, _setting(race.config)) for race in controls(rows, plan)}
    planned = []
    for data in plan.data:
        best = _best(rows, data, "adadpo")
        missing = [] if (data, best) in have else [("default", best, {})]
        planned += [
            PlannedRace(experiment, _at(plan, data, where, SEEDS + seed, **change))
            for seed in range(plan.control_seeds)
            for experiment, where, change in [*missing, *_varied(plan, best)]
        ]
    return planned


def _varied(plan: Plan, best: tuple[float, float]) -> Iterator[tuple[str, tuple, dict]]:
    """Yield (experiment, setting, change) of each race of one seed."""
    for value in plan.ceilings:
        yield "ceiling", best, {"ceiling": value}
        yield "ceiling_too_hard", plan.too_hard, {"ceiling": value}
    yield "form", best, {"methods": ("adadpo_raw",)}
    for value in plan.ks:
        yield "k", best, {"k": value}


def _at(plan: Plan, data: str, setting: tuple, seed: int, **change: object) -> RaceConfig:
    rate, beta = setting
    change = {"methods": ("adadpo",), **change}
    return replace(plan.size, data=data, seed=seed, learning_rate=rate, beta=beta, **change)


def _setting(config: RaceConfig) -> tuple[float, float]:
    return config.learning_rate, config.beta


def _control_bases(rows: Sequence[Row], plan: Plan) -> list[RaceConfig]:
    """Return a race for each place of the controls: data, setting, seed."""
    return [
        _at(plan, data, setting, SEEDS + seed)
        for seed in range(plan.control_seeds)
        for data in plan.data
        for setting in dict.fromkeys((_best(rows, data, "dpo"), plan.too_hard))
    ]


def _best(rows: Sequence[Row], data: str, method: str) -> tuple[float, float]:
    best = best_setting(rows, data, method)
    if best is None:
        raise InputError(f"the grid has no LC win rate of {method} on {data}; run it again.")
    return best


def sets(seeds: int = 3) -> list[PlannedRace]:
    """Return the races of every toy set at the defaults."""
    return [PlannedRace("sets", config) for config in _sets(seeds, ("dpo", "adadpo", "rpo"))]


def matched_sets(rows: Sequence[Row], seeds: int = 3) -> list[PlannedRace]:
    """Return, for every race of `sets`, the constant that equals AdaDPO's mean ρ there.

    Raises:
        InputError: the results lack a race of `sets`.
    """
    return [
        matched_race("matched", config, mean_rho(rows, "sets", config, "adadpo"))
        for config in _sets(seeds, ("fixed_ratio",))
    ]


def _sets(seeds: int, methods: tuple[str, ...]) -> list[RaceConfig]:
    steps = RaceConfig.steps
    more = {"methods": methods, "eval_pairs": PROMPTS, "measure_every": steps}
    return [RaceConfig(data=name, seed=seed, **more) for seed in range(seeds) for name in SETS]


def betas(seeds: int = 3) -> list[PlannedRace]:
    """Return the races of the default set and learning rate over β, all else equal."""
    more = {"eval_pairs": PROMPTS, "measure_every": RaceConfig.steps}
    return [
        PlannedRace("beta", RaceConfig(beta=beta, seed=seed, **more))
        for seed in range(seeds)
        for beta in (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    ]


ARCS = {"default": {}, "arc": {"learning_rate": 3e-5, "beta": 0.1},
        "too_hard": {"learning_rate": 2e-4, "beta": 0.1}}  # fmt: skip
"""The settings that the package shows first, by the name of their preset."""


def arcs(seeds: int = SEEDS) -> list[PlannedRace]:
    """Return the races of DPO and AdaDPO that were considered as the default, judged on the way."""
    more = {"eval_pairs": PROMPTS, "measure_every": 30}
    return [
        PlannedRace(name, RaceConfig(seed=seed, **more, **settings))
        for seed in range(seeds)
        for name, settings in ARCS.items()
    ]
