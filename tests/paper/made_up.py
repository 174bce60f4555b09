"""Made-up results of a sweep, whose truth is known."""

import csv
import random

from adadpo_mini.paper.results import COLUMNS

SETS = ("near_duplicate", "swap", "tone")
LEARNING_RATES, BETAS = (1e-5, 3e-5, 1e-4, 3e-4), (0.03, 0.1, 0.3, 1.0)
SEEDS, CONTROL_SEEDS, STEPS = range(4), range(5, 10), 40
BEST, HARD = (1e-4, 0.3), (3e-4, 0.1)
BETTER = {"adadpo": 0.1, "adadpo_policy": 0.1}
WORSE = {"adadpo": -0.1, "adadpo_policy": -0.1}
GRID = ("dpo", "adadpo", "adadpo_policy")
CONTROLS = {
    "controls": (*GRID, "adadpo_batch", "rpo", "dpo_matched_norm", "fixed_ratio"),
    "controls_policy": ("adadpo_batch", "dpo_matched_norm"),
    "matched": ("fixed_ratio",),
    "matched_policy": ("fixed_ratio",),
    "scaled": ("adadpo",),
    "scaled_policy": ("adadpo_policy",),
}
CEILINGS = {1.5: -0.08, 3.0: -0.06, 5.0: -0.1, 10.0: -0.2}
RHO = {"adadpo": 1.25, "adadpo_policy": 1.6}


def helps(setting):
    """Whether DPO beats its reference at a setting of the grid; 5 of 16 do."""
    return _distance(setting) <= 1


def _distance(setting):
    near = (LEARNING_RATES.index(BEST[0]), BETAS.index(BEST[1]))
    here = (LEARNING_RATES.index(setting[0]), BETAS.index(setting[1]))
    return sum(abs(a - b) for a, b in zip(near, here, strict=True))


def run(experiment, data, method, seed, setting, lc, noise, judged=(STEPS,), share=None, **knobs):
    """The rows of a run that ends with this LC win rate at T 0.7, all else in proportion to it.

    `judged` are the steps that the judge sees.
    """
    share = setting[1] / 2 if share is None else share
    for step in sorted({0, 20, STEPS, *judged}):
        row = dict.fromkeys(COLUMNS)
        row |= {"experiment": experiment, "data": data, "method": method, "seed": seed}
        row |= {"steps": STEPS, "batch_size": 8, "learning_rate": setting[0], "beta": setting[1]}
        row |= {"ceiling": 2.0, "k": 1.0, "ratio": 2.0, "step": step, **knobs}
        part = step / STEPS
        row |= {"shift_chosen": part * (40 * lc - 20 + noise.gauss(0, 1))}
        row |= {"shift_rejected": part * (20 * lc - 60 + noise.gauss(0, 2))}
        row |= {"accuracy": 0.5 + part * lc / 3, "ranking_accuracy": 0.4 + part * lc / 4}
        row |= {"margin": 2 * part * lc, "rho": 1 + part, "ceiling_share": part * share}
        if step in judged:
            row |= judgement(lc)
        if step == STEPS:
            row |= {"mean_rho": RHO.get(method, 1.0) + noise.gauss(0, 0.01)}
        yield row


def judgement(lc):
    """The judged columns; at T 1 an effect is half as large, and no two columns are alike."""
    return {
        "kl": 20 * (1 - lc), "prompts": 100, "perfect_win_rate": 0.9, "ties": 0.3,
        "lc_win_rate": lc, "win_rate": 0.2 + lc / 2,
        "lc_win_rate_at_1": 0.3 + lc / 2, "win_rate_at_1": 0.35 + lc / 4,
        "length": 14.0, "reference_length": 15.0,
    }  # fmt: skip


def made_up_results(
    effects, *, where_broken=0.0, ceilings=None, form=-0.08, share=None, noise_level=0.01,
    sets=SETS, seeds=SEEDS, control_seeds=CONTROL_SEEDS, seed=0,
):  # fmt: skip
    """A whole sweep. DPO's LC win rate depends on data and setting, others differ from it.

    Args:
        effects: by method, or by (experiment, method).
        where_broken: the further effect of AdaDPO in settings in which DPO does not help.
        ceilings: of other ceilings than 2, at AdaDPO's best setting; at the hard setting they do
            the opposite.
        form: of the raw form.
        share: of pairs at the ceiling, after training.
    """
    noise = random.Random(seed)
    rows = []

    def add(experiment, data, method, seed, setting, extra=0.0, **more):
        lc = 0.75 + 0.01 * SETS.index(data) - 0.1 * _distance(setting) + extra
        lc += effects.get((experiment, method), effects.get(method, 0.0))
        if not helps(setting) and method in BETTER:
            lc += where_broken
        lc += noise.gauss(0, noise_level)
        rows.extend(run(experiment, data, method, seed, setting, lc, noise, share=share, **more))

    for data in sets:
        for run_seed in seeds:
            for setting in [(rate, beta) for rate in LEARNING_RATES for beta in BETAS]:
                for method in GRID:
                    add("grid", data, method, run_seed, setting)
        for run_seed in control_seeds:
            for setting in (BEST, HARD):
                for experiment, methods in CONTROLS.items():
                    for method in methods:
                        quarters = (10, 20, 30, STEPS) if method == "dpo" else (STEPS,)
                        add(experiment, data, method, run_seed, setting, judged=quarters)
            for ceiling, extra in (CEILINGS if ceilings is None else ceilings).items():
                knobs = {"ceiling": ceiling}
                add("ceiling", data, "adadpo", run_seed, BEST, extra, **knobs)
                add("ceiling_too_hard", data, "adadpo", run_seed, HARD, -extra, **knobs)
            for k in (0.5, 2.0):
                add("k", data, "adadpo", run_seed, BEST, k=k)
            add("form", data, "adadpo_raw", run_seed, BEST, effects.get("adadpo", 0.0) + form)
    return rows


def closing(rows, **where):
    """The last rows of the runs in which every column has this value."""
    return [
        row
        for row in rows
        if row["step"] == row["steps"] and all(row[name] == value for name, value in where.items())
    ]


def changed(rows, change, **where):
    """The rows, with `change(row)` merged into those in which every column has this value."""
    return [
        {**row, **change(row)} if all(row[name] == value for name, value in where.items()) else row
        for row in rows
    ]


def write(rows, path):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
